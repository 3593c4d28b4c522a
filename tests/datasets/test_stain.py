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


# Eosin lets red through, where the light is brighter than the method assumes.
HAEMATOXYLIN, EOSIN = (0.65, 0.70, 0.29), (0.07, 0.99, 0.11)


def amounts_of(haematoxylin, eosin):
    """Lay tissue of two stains out with some glass next to it, as strongly stained as is asked for."""
    amounts = np.random.default_rng(0).uniform(0.2, 1, (64, 64, 2)) * (haematoxylin, eosin)
    amounts[:24, :, 0] = amounts[24:32, :, 1] = amounts[60:] = 0
    return amounts


def stained(haematoxylin, eosin):
    absorbed = amounts_of(haematoxylin, eosin) @ (HAEMATOXYLIN, EOSIN)
    return np.round(256 * np.exp(-absorbed) - 1).clip(0, 255).astype(np.uint8)


def absorbing_in_every_channel(image):
    return np.mean(np.all(-np.log((image + 1.0) / 240) >= 0.15, axis=2))


@pytest.mark.parametrize(("haematoxylin", "eosin"), [(0.25, 1.2), (0.4, 0.4), (0.15, 0.3), (0.1, 1.2)])
def test_pale_tissue_and_tissue_that_is_mostly_pink_get_the_reference_too(haematoxylin, eosin):
    """Hardly a pixel absorbs in every channel there."""
    image, amounts = stained(haematoxylin, eosin), amounts_of(haematoxylin, eosin)
    assert absorbing_in_every_channel(image) < 0.01
    found, known = stain.normalise_each(tf.constant(image), "macenko")
    assert known
    scale = stain.MACENKO_CONCENTRATIONS / np.percentile(amounts, 99, axis=(0, 1))
    expected = 240 * np.exp(-(amounts * scale) @ stain.MACENKO_STAINS)
    assert np.abs(found.numpy() - expected).mean() < 0.2 * np.abs(image - expected).mean()


@pytest.mark.parametrize(("haematoxylin", "eosin"), [(1.5, 1), (5, 1), (5, 4)])
def test_tissue_that_the_independent_implementation_finds_is_measured_as_it_does(haematoxylin, eosin):
    image = stained(haematoxylin, eosin)
    found, known = stain.normalise_each(tf.constant(image), "macenko")
    assert known
    assert set(np.unique(found.numpy().astype(int) - by_torchstain("macenko", image))) <= {0, 1}


@pytest.mark.parametrize("strengths", [(0, 1), (0, 3), (2, 0), (0.5, 0)])
def test_one_stain_alone_is_left_as_it_is_however_strong(strengths):
    image = tf.constant(stained(*strengths))
    found, known = stain.normalise_each(image, "macenko")
    assert not known
    np.testing.assert_array_equal(found, image)


@pytest.mark.parametrize("method", stain.NORMALISATIONS)
def test_which_images_could_not_be_normalised_is_returned(method):
    images = np.stack([stained(0.25, 1.2), np.full((64, 64, 3), 255, np.uint8), stained(1.5, 1)])
    found, known = stain.normalise_each(tf.constant(images), method)
    np.testing.assert_array_equal(known, [True, method == "none", True])
    np.testing.assert_array_equal(found, stain.normalise(tf.constant(images), method))
    for image, answer in zip(images, known, strict=True):
        alone, own = stain.normalise_each(tf.constant(image), method)
        assert own.shape == ()
        assert own == answer
        np.testing.assert_array_equal(alone, stain.normalise(tf.constant(image), method))


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
    pink = np.resize(stained(0.25, 1.2), (1, 144, 192, 3))
    images = np.concatenate([pictures(), pink, np.full((1, 144, 192, 3), 255, np.uint8)])
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
