import numpy as np
import pytest
import tensorflow as tf
import torchstain

from datasets import phantom, stain

METHODS = stain.NORMALISATIONS[1:]


def pictures():
    return np.stack([phantom.draw(label, patient, 0)[::2, ::2] for patient, label in enumerate(phantom.CLASSES)])


def by_torchstain(method, image):
    if method == "macenko":
        return torchstain.normalizers.MacenkoNormalizer(backend="numpy").normalize(image, stains=False)[0]
    normalizer = torchstain.normalizers.ReinhardNormalizer(backend="numpy")
    normalizer.target_means, normalizer.target_stds = stain.REINHARD_MEAN, stain.REINHARD_DEVIATION
    return normalizer.normalize(image)


def blanks():
    noise = np.random.default_rng(0).integers(0, 2, (24, 32, 3))
    speck = np.full((24, 32, 3), 255)
    speck[0, 0] = (90, 40, 120)
    return {
        "white": np.full((24, 32, 3), 255),
        "black": np.zeros((24, 32, 3)),
        "one colour": np.full((24, 32, 3), (200, 100, 150)),
        "glass with a camera's noise": 253 + noise,
        "one stain only": np.round(240 * np.exp(-np.linspace(0.3, 1, 24)[:, None, None] * [[[0.65, 0.7, 0.29]] * 32])),
    } | {"a speck on glass": speck}


@pytest.mark.parametrize("method", METHODS)
def test_an_independent_implementation_agrees(method):
    """The other one cuts decimals off where this one rounds: at most a level less, and often none."""
    for image in pictures():
        found, expected = stain.normalise(tf.constant(image), method).numpy(), by_torchstain(method, image)
        assert set(np.unique(found.astype(int) - expected)) == {0, 1}
        assert np.abs(found.astype(int) - image).mean() > 5


def test_the_reference_is_the_one_in_use():
    theirs = torchstain.normalizers.MacenkoNormalizer(backend="numpy")
    np.testing.assert_array_equal(np.transpose(stain.MACENKO_STAINS), theirs.HERef)
    np.testing.assert_array_equal(stain.MACENKO_CONCENTRATIONS, theirs.maxCRef)


@pytest.mark.parametrize("stains", [((0.65, 0.70, 0.29), (0.27, 0.92, 0.28)), ((0.74, 0.63, 0.22), (0.35, 0.80, 0.49))])
def test_macenko_turns_any_two_stains_into_the_reference(stains):
    """What the method assumes holds here: two stains, and pixels of each alone."""
    amounts = np.random.default_rng(0).uniform(0.6, 1.4, (60, 50, 2))
    amounts[:10, :, 0] = amounts[10:20, :, 1] = 0
    image = np.round(240 * np.exp(-amounts @ stains) - 1).astype(np.uint8)
    scale = stain.MACENKO_CONCENTRATIONS / np.percentile(amounts, 99, axis=(0, 1))
    expected = 240 * np.exp(-(amounts * scale) @ stain.MACENKO_STAINS)
    np.testing.assert_allclose(stain.normalise(tf.constant(image), "macenko"), expected, atol=4)


@pytest.mark.parametrize("method", stain.NORMALISATIONS)
@pytest.mark.parametrize("case", blanks())
def test_what_cannot_be_measured_is_left_alone(method, case):
    image = blanks()[case].astype(np.uint8)
    found = stain.normalise(tf.constant(image), method).numpy()
    if (method, case) in {("reinhard", "one stain only"), ("reinhard", "a speck on glass")}:
        assert len(np.unique(found)) > 1  # there is contrast to match, so this method has its say
    else:
        np.testing.assert_array_equal(found, image)


@pytest.mark.parametrize("method", METHODS)
def test_alone_in_a_batch_and_in_a_data_set_alike(method):
    images = np.concatenate([pictures(), np.full((1, 144, 192, 3), 255, np.uint8)])
    alone = [stain.normalise(tf.constant(image), method) for image in images]
    data = tf.data.Dataset.from_tensor_slices(images)
    mapped = list(data.map(lambda image: stain.normalise(image, method)).as_numpy_iterator())
    np.testing.assert_array_equal(stain.normalise(tf.constant(images), method), alone)
    np.testing.assert_array_equal(mapped, alone)
    np.testing.assert_array_equal(alone[-1], images[-1])


@pytest.mark.parametrize("method", METHODS)
def test_saved_with_a_model_and_loaded(method, tmp_path):
    module = tf.Module()
    signature = [tf.TensorSpec((None, None, None, 3), tf.uint8)]
    module.normalise = tf.function(lambda images: stain.normalise(images, method), input_signature=signature)
    tf.saved_model.save(module, str(tmp_path))
    images = tf.constant(pictures())
    np.testing.assert_array_equal(tf.saved_model.load(str(tmp_path)).normalise(images), stain.normalise(images, method))


@pytest.mark.parametrize("method", METHODS)
def test_only_the_sample_is_measured(method):
    image = tf.constant(pictures()[0])
    middle = image[30:110, 50:130]
    whole = stain.normalise(image, method, sample=middle)
    np.testing.assert_array_equal(whole[30:110, 50:130], stain.normalise(middle, method))
    assert not np.array_equal(whole, stain.normalise(image, method))


def test_an_unknown_method():
    with pytest.raises(ValueError, match="'vahadane': choose one of none, macenko, reinhard"):
        stain.normalise(tf.zeros((2, 2, 3), tf.uint8), "vahadane")
