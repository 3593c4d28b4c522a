import numpy as np
import pytest
import tensorflow as tf

from datasets.augment import DRAW_COUNT, DRAWS, RandomView

SIZE = 16
# angle, hand, scale, right, down
IDENTITY = (0.0, 0.75, 0.5, 0.5, 0.5)


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def view(image, draws, **options):
    entries = {"images": tf.constant(image), DRAWS: tf.constant(draws, tf.float32)}
    return RandomView(SIZE, **options)(entries)["images"]


def test_identity_draw_is_the_centre_crop():
    image = noise(SIZE, SIZE + 6, 3)
    np.testing.assert_allclose(view(image, IDENTITY, smallest=1.0), image[:, 3:-3], atol=1e-2)


@pytest.mark.parametrize(
    ("draws", "expected"),
    [
        ((0.0, 0.25, 0.5, 0.5, 0.5), lambda image: image[:, ::-1]),
        ((0.25, 0.75, 0.5, 0.5, 0.5), lambda image: np.rot90(image, 1)),
        ((0.5, 0.75, 0.5, 0.5, 0.5), lambda image: np.rot90(image, 2)),
        ((0.25, 0.25, 0.5, 0.5, 0.5), lambda image: np.transpose(np.rot90(image, 2), (1, 0, 2))),
    ],
    ids=["mirror", "quarter turn", "half turn", "reflected turn"],
)
def test_turns_and_reflections_are_exact(draws, expected):
    image = noise(SIZE, SIZE, 3)
    np.testing.assert_allclose(view(image, draws, smallest=1.0), expected(image), atol=0.05)


@pytest.mark.parametrize(("right", "left"), [(0.0, 0), (1.0, 6)])
def test_window_moves_from_border_to_border(right, left):
    image = noise(SIZE, SIZE + 6, 3)
    draws = (0.0, 0.75, 0.5, right, 0.5)
    np.testing.assert_allclose(view(image, draws, smallest=1.0), image[:, left : left + SIZE], atol=1e-2)


def test_smallest_window_enlarges():
    ramp = np.tile(np.arange(32, dtype=np.float32)[None, :, None], (32, 1, 3))
    draws = (0.0, 0.75, 0.0, 0.5, 0.5)
    columns = view(ramp, draws, smallest=0.5)[0, :, 0].numpy()
    np.testing.assert_allclose(np.diff(columns), 0.5, atol=1e-4)
    assert columns.mean() == pytest.approx(15.5)


def test_borders_are_filled_by_tissue():
    image = np.full((SIZE, SIZE, 3), 200, np.uint8)
    np.testing.assert_allclose(view(image, (0.125, 0.75, 1.0, 0.0, 0.0)), 200, atol=1e-2)


def test_same_draws_give_the_same_image_eagerly_and_in_a_data_set():
    images = noise(3, 20, 24, 3)
    draws = np.random.default_rng(1).uniform(size=(3, DRAW_COUNT)).astype(np.float32)
    layer = RandomView(SIZE)
    data = tf.data.Dataset.from_tensor_slices({"images": images, DRAWS: draws})
    alone = list(data.map(lambda row: layer(row)["images"]).as_numpy_iterator())
    batched = next(data.batch(3).map(lambda rows: layer(rows)["images"]).as_numpy_iterator())
    eager = [view(image, row) for image, row in zip(images, draws, strict=True)]
    np.testing.assert_allclose(alone, eager, atol=1e-3)
    np.testing.assert_allclose(batched, eager, atol=1e-3)


def test_other_draws_give_another_image():
    image = noise(20, 24, 3)
    changed = [0.1, 0.3, 0.9, 0.9, 0.1]
    plain = view(image, IDENTITY).numpy()
    for place, value in enumerate(changed):
        draws = [*IDENTITY[:place], value, *IDENTITY[place + 1 :]]
        assert np.abs(view(image, draws) - plain).max() > 5


def test_answer_is_float32_and_other_entries_pass_through():
    entries = {
        "images": noise(2, 20, 24, 3),
        DRAWS: np.full((2, DRAW_COUNT), 0.5),
        "labels": np.array([3, 4]),
    }
    answer = RandomView(SIZE)(entries)
    assert (answer["images"].dtype, tuple(answer["images"].shape)) == (tf.float32, (2, SIZE, SIZE, 3))
    np.testing.assert_array_equal(answer["labels"], [3, 4])


def test_layer_comes_back_from_its_configuration():
    again = RandomView.from_config(RandomView(SIZE, smallest=0.6).get_config())
    assert (again.size, again.smallest) == (SIZE, 0.6)
