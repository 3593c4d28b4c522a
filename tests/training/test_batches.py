from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from bach_keras import preprocess
from bach_keras.recipe import Recipe
from bach_keras.training.batches import cache_images, evaluation_batches, steps_per_epoch, training_batches
from datasets.augment import DRAWS, Brightness, RandomView, StainJitter, uniform_draws

RECIPE = Recipe(image_size=32, batch_size=2, seed=5)
COUNT = 6


def pictures(count=COUNT):
    """Of several shapes; each of its own level, so that a batch shows which it holds."""
    rng = np.random.default_rng(0)
    shapes = [(40, 56, 3), (64, 48, 3), (48, 48, 3)]
    return [(30 * (i + 1) + rng.integers(0, 20, shapes[i % 3])).astype(np.uint8) for i in range(count)]


def cached(count=COUNT, recipe=RECIPE):
    images = pictures(count)

    def records():
        for i, image in enumerate(images):
            yield {"image": image, "label": i % 3, "filename": f"{i}.png"}

    signature = {
        "image": tf.TensorSpec((None, None, 3), tf.uint8),
        "label": tf.TensorSpec((), tf.int64),
        "filename": tf.TensorSpec((), tf.string),
    }
    return cache_images(
        tf.data.Dataset.from_generator(records, output_signature=signature), {0: 0, 1: 1, 2: 1}, recipe.view
    )


def held(cache, index):
    stack, row = cache.places[index]
    return cache.stacks[stack][row]


@pytest.fixture(scope="module")
def cache():
    return cached()


def batches(cache, first_epoch=0, epochs=1, recipe=RECIPE):
    return list(training_batches(cache, recipe, first_epoch, epochs).as_numpy_iterator())


def levels(found):
    """Which picture each row of the batches shows."""
    rows = np.concatenate([images for images, _ in found])
    means = (rows * preprocess.DEVIATION + preprocess.MEAN).mean(axis=(1, 2, 3)) * 255
    return [round((mean - 9.5) / 30) - 1 for mean in means]


def test_cache_holds_each_image_resized(cache):
    assert cache.filenames == tuple(f"{i}.png" for i in range(COUNT))
    np.testing.assert_array_equal(cache.targets, [0, 1, 1, 0, 1, 1])
    assert len(cache.stacks) == 3
    for index, image in enumerate(pictures()):
        np.testing.assert_array_equal(held(cache, index), preprocess.resize_shorter(image, 32))


@pytest.mark.parametrize("method", ["macenko", "reinhard"])
def test_the_stain_is_normalised_before_the_cache_as_it_is_in_the_export(cache, method):
    """The cut square is what an export makes of the file."""
    normalised = cached(recipe=replace(RECIPE, stain_normalisation=method))
    for index, image in enumerate(pictures()):
        square = preprocess.centre_crop(held(normalised, index), 32)
        np.testing.assert_array_equal(square, preprocess.square(image, 32, method))
    assert not np.array_equal(held(normalised, 0), held(cache, 0))


def test_a_label_without_a_target_is_not_taken_silently():
    record = {"image": pictures(1)[0][None], "label": [7], "filename": ["7.png"]}
    with pytest.raises(KeyError):
        cache_images(tf.data.Dataset.from_tensor_slices(record), {0: 0}, RECIPE.view)


def test_every_image_once_an_epoch_with_its_target(cache):
    found = batches(cache, epochs=2)
    first, second = levels(found[:3]), levels(found[3:])
    assert sorted(first) == sorted(second) == list(range(COUNT))
    targets = np.concatenate([targets for _, targets in found])
    np.testing.assert_array_equal(targets, cache.targets[first + second])


@pytest.mark.parametrize("colours", [{}, {"stain_jitter": 0.1, "brightness": 0.1, "crops": "three"}])
def test_epoch_is_the_same_whenever_the_run_began(cache, colours):
    recipe = replace(RECIPE, **colours)
    from_the_start, resumed = batches(cache, 0, 3, recipe)[6:], batches(cache, 2, 1, recipe)
    for (images, targets), (same_images, same_targets) in zip(from_the_start, resumed, strict=True):
        np.testing.assert_array_equal(images, same_images)
        np.testing.assert_array_equal(targets, same_targets)


def test_epochs_and_seeds_differ(cache):
    plain = np.concatenate([images for images, _ in batches(cache)])
    later = np.concatenate([images for images, _ in batches(cache, 1)])
    other = np.concatenate([images for images, _ in batches(cache, recipe=Recipe(image_size=32, batch_size=2))])
    assert not np.array_equal(plain, later)
    assert not np.array_equal(plain, other)
    # The views differ too, not the order alone.
    assert not {image.tobytes() for image in plain} & {image.tobytes() for image in later}


@pytest.mark.parametrize("colours", [{}, {"stain_jitter": 0.05, "brightness": 0.02, "crops": "three"}])
def test_a_batch_holds_what_its_draws_make(cache, colours):
    """The draws of an image, seen eagerly, give what the data set gave, whatever the shapes in the batch."""
    recipe = replace(RECIPE, **colours)
    draws = uniform_draws(COUNT, tf.constant([RECIPE.seed, 0], tf.int64))
    found = batches(cache, recipe=recipe)
    rows = np.concatenate([images for images, _ in found])
    layers = [RandomView(32, recipe.smallest_view, recipe.crops)]
    if colours:
        layers += [StainJitter(recipe.stain_jitter), Brightness(recipe.brightness)]
    for row, index in zip(rows, levels(batches(cache)), strict=True):
        image = held(cache, index)
        for layer in layers:
            image = layer({"images": image, DRAWS: draws[index]})["images"]
        np.testing.assert_allclose(row, preprocess.normalise(image), atol=1e-3)


def test_cardinality_is_known_and_true(cache):
    data = training_batches(cache, RECIPE, 0, 3)
    assert int(data.cardinality()) == 9 == len(list(data))


def test_what_does_not_fill_a_batch_waits():
    odd = cached(5)
    found = batches(odd, epochs=4)
    assert steps_per_epoch(len(odd), RECIPE) == 2
    assert [len(images) for images, _ in found] == [2] * 8
    assert all(len(set(levels(found[i : i + 2]))) == 4 for i in range(0, 8, 2))
    assert set(levels(found)) == set(range(5))


def test_too_few_images_for_a_batch():
    with pytest.raises(ValueError, match=r"There is 1 training image.*batch of 2.*--batch-size"):
        training_batches(cached(1), RECIPE, 0, 1)


def test_evaluation_takes_centre_crops_in_order():
    found = list(evaluation_batches(cached(5), RECIPE).as_numpy_iterator())
    assert [len(images) for images, _ in found] == [2, 2, 1]
    rows = np.concatenate([images for images, _ in found])
    expected = [preprocess.normalise(preprocess.square(image, 32)) for image in pictures(5)]
    np.testing.assert_allclose(rows, expected, atol=1e-6)
    np.testing.assert_array_equal(np.concatenate([targets for _, targets in found]), [0, 1, 1, 0, 1])


def test_no_tuner_whose_thread_a_dropped_iterator_would_wait_for(cache):
    for dataset in (training_batches(cache, RECIPE, 0, 1), evaluation_batches(cache, RECIPE)):
        assert dataset.options().autotune.enabled is False
