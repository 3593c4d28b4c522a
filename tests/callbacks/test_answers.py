import numpy as np
import pytest

from callbacks.answers import as_classes, as_pictures, as_probabilities, check_answers, choose_output

LEVELS = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3), np.uint8)
NAMES = ("dark", "light")


@pytest.mark.parametrize(
    "images",
    [LEVELS, LEVELS.astype(int), LEVELS.astype("f4"), LEVELS / 255, (LEVELS / 255).astype("f4"), list(LEVELS)],
    ids=["uint8", "int", "floats to 255", "floats to 1", "float32 to 1", "list"],
)  # fmt: skip
def test_images_of_any_range_are_drawn_as_they_look(images):
    np.testing.assert_array_equal(as_pictures(images), LEVELS)


@pytest.mark.parametrize("grey", [LEVELS[..., 0], LEVELS[..., :1], LEVELS[..., 0] / 255])
def test_grey_images_are_drawn_grey(grey):
    np.testing.assert_array_equal(as_pictures(grey), np.repeat(LEVELS[..., :1], 3, axis=3))


def test_transparency_is_drawn_on_white():
    drawn = as_pictures(np.concatenate([LEVELS, np.full((2, 4, 6, 1), 0, np.uint8)], axis=3))
    assert (drawn == 255).all()


@pytest.mark.parametrize(
    "images",
    [
        LEVELS / 127.5 - 1, (LEVELS / 255 - 0.45) / 0.22, LEVELS.astype("uint16") * 257, LEVELS / 255 * 3,
        np.full((1, 2, 2, 3), np.nan), LEVELS[0, ..., 0], LEVELS[..., :2], LEVELS[:0], np.array([["a"]]),
    ],
    ids=["-1 to 1", "normalised", "16 bits", "0 to 3", "NaN", "one image", "two channels", "none", "text"],
)  # fmt: skip
def test_ambiguous_images_are_refused(images):
    with pytest.raises(ValueError, match=r"give (\[n, height|uint8|numbers)"):
        as_pictures(images)


@pytest.mark.parametrize(
    "labels",
    [
        [1, 0], [1.0, 0.0], [[1], [0]], [[0, 1], [1, 0]], [[0.05, 0.95], [0.9, 0.1]], ["light", "dark"],
        [b"light", b"dark"], {"kind": [1, 0]}, np.array([True, False]), (1, 0),
    ],
    ids=["ints", "floats", "column", "one-hot", "smoothed", "names", "bytes", "dict", "booleans", "tuple"],
)  # fmt: skip
def test_labels_of_any_usual_form_are_classes(labels):
    np.testing.assert_array_equal(as_classes(labels, 2, NAMES), [1, 0])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1], "one for each image"),
        (1, "one for each image"),
        ([2, 0], "label 2 is not a class"),
        ([-1, 0], "label -1 is not a class"),
        ([0.5, 0], "label 0.5 is not a class"),
        ([np.nan, 0], "label nan is not a class"),
        ([[1, 1], [0, 1]], "mark several classes"),
        ([[0, 0], [0, 1]], "mark several classes"),
        ([[0, 1, 0], [1, 0, 0]], "have the shape"),
        (["light", "grey"], "'grey' is not one"),
        ((np.array([1, 0]), np.array([1.0, 1.0])), "sample weights"),
        ({"a": [1, 0], "b": [1, 0]}, "'a', 'b': name one"),
    ],
)
def test_labels_that_do_not_mark_one_class_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        as_classes(labels, 2, NAMES)


def probabilities(outputs, class_names=NAMES, from_logits=False, output=None, names=()):
    values = choose_output(outputs, 2, names, output)
    check_answers(values, class_names, from_logits)
    return as_probabilities(values, from_logits)


@pytest.mark.parametrize("outputs", [np.array([0.9, 0.2]), np.array([[0.9], [0.2]], np.float32)])
def test_one_sigmoid_answers_for_two_classes(outputs):
    np.testing.assert_allclose(probabilities(outputs), [[0.1, 0.9], [0.8, 0.2]], rtol=1e-5)


def test_one_logit_is_the_second_class():
    np.testing.assert_allclose(
        probabilities(np.array([[np.log(9)], [-800.0]]), from_logits=True), [[0.1, 0.9], [1, 0]], atol=1e-9
    )


def test_logits_become_probabilities():
    logits = np.log([[0.1, 0.9], [0.8, 0.2]]) + 5
    np.testing.assert_allclose(probabilities(logits, from_logits=True), [[0.1, 0.9], [0.8, 0.2]])


@pytest.mark.parametrize("output", ["kind", None, 0, np.int64(0)])
def test_the_only_output_of_a_dict_or_list_is_used(output):
    answers = np.array([[0.1, 0.9], [0.8, 0.2]])
    if output != 0:
        np.testing.assert_allclose(probabilities({"kind": answers}, output=output), answers)
    np.testing.assert_allclose(probabilities([answers], names=["kind"], output=output), answers)


@pytest.mark.parametrize("several", [dict, list])
def test_one_of_several_outputs_must_be_named(several):
    answers = np.array([[0.1, 0.9], [0.8, 0.2]])
    outputs = {"kind": answers, "age": np.array([40.0, 50])}
    outputs = outputs if several is dict else list(outputs.values())
    with pytest.raises(ValueError, match="outputs 'kind', 'age': name one of them with output="):
        probabilities(outputs, names=["kind", "age"])
    np.testing.assert_allclose(probabilities(outputs, names=["kind", "age"], output="kind"), answers)


@pytest.mark.parametrize(
    ("outputs", "settings", "message"),
    [
        (np.array([[3.0, -2.0]] * 2), {}, "say from_logits=True"),
        (np.array([[3.0], [0.1]]), {}, "say from_logits=True"),
        (np.array([[0.2, 0.8]] * 2), {"from_logits": True}, "answers probabilities"),
        (np.array([[0.9, 0.8]] * 2), {}, "several labels per image"),
        (np.array([[0.2, 0.3, 0.5]] * 2), {}, "answers 3 classes and class_names are 2"),
        (np.array([[0.2], [0.3]]), {"class_names": ("a", "b", "c")}, "what 0 means and what 1 means"),
        (np.zeros((2, 4, 4, 2)), {}, r"only \[2, classes\]"),
        (np.array([[0.2, 0.8]]), {}, r"only \[2, classes\]"),
        (np.array([[0.2, 0.8]] * 2), {"output": "kind"}, "no output 'kind'"),
    ],
)
def test_answers_that_do_not_fit_are_refused(outputs, settings, message):
    with pytest.raises(ValueError, match=message):
        probabilities(outputs, **settings)


def test_nan_answers_stay_nan_and_do_not_affect_others():
    found = probabilities(np.array([[np.nan, 1], [0, np.log(3)]]), from_logits=True)
    assert np.isnan(found[0]).all()
    np.testing.assert_allclose(found[1], [0.25, 0.75])
    assert np.isnan(probabilities(np.array([[np.inf, 0.0], [0.0, 2.0]]), from_logits=True)[0]).any()
