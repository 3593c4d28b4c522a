"""From records to batches: resized once and kept in memory, then augmented each epoch."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from bach_keras import preprocess
from datasets.augment import DRAW_COUNT, DRAWS, RandomView


@dataclass(frozen=True)
class ImageCache:
    """Images whose shorter side is the training size, end to end in one array.

    Images of several widths share one array and any of them is found at once,
    so an epoch's order is a plain permutation and needs no shuffle buffer.

    Attributes:
        pixels: uint8, all images' values.
        starts: int64 [n], where each begins.
        shapes: int32 [n, 3], height, width, 3.
        targets: int32 [n], each image's answer.
        filenames: their names.
    """

    pixels: np.ndarray
    starts: np.ndarray
    shapes: np.ndarray
    targets: np.ndarray
    filenames: tuple[str, ...]

    def __len__(self):
        return len(self.filenames)

    def lookup(self):
        """Return a function: index -> uint8 [H, W, 3], for use inside tf.data."""
        pixels, starts, shapes = (tf.constant(part) for part in (self.pixels, self.starts, self.shapes))

        def image(index):
            shape = shapes[index]
            flat = tf.slice(pixels, starts[index, None], tf.cast(tf.reduce_prod(shape), tf.int64)[None])
            return tf.ensure_shape(tf.reshape(flat, shape), (None, None, 3))

        return image


def cache_images(records: tf.data.Dataset, targets: dict[int, int], image_size: int) -> ImageCache:
    """Resize every record once.

    Args:
        records: dicts with ``image`` uint8 [H, W, 3], ``label`` and ``filename``.
        targets: label index -> the node's answer; every record's label must be in it.
        image_size: what the shorter side becomes, in pixels.
    """

    def resize(record):
        image = preprocess.resize_shorter(record["image"], image_size)
        return image, record["label"], record["filename"]

    resized = preprocess.untuned(records.map(resize, num_parallel_calls=tf.data.AUTOTUNE))
    rows = list(resized.as_numpy_iterator())
    images, labels, names = zip(*rows, strict=True) if rows else ((), (), ())
    sizes = [image.size for image in images]
    return ImageCache(
        pixels=np.concatenate([image.ravel() for image in images] or [np.zeros(0, np.uint8)]),
        starts=np.cumsum([0, *sizes[:-1]]).astype(np.int64),
        shapes=np.array([image.shape for image in images], np.int32).reshape(-1, 3),
        targets=np.array([targets[int(label)] for label in labels], np.int32),
        filenames=tuple(name.decode() for name in names),
    )


def training_batches(cache: ImageCache, recipe, first_epoch: int, epochs: int) -> tf.data.Dataset:
    """Return augmented batches of some epochs, end to end.

    Order and augmentation follow from (seed, epoch, index) alone, so epoch k is
    the same whether the run began at 0 or was resumed at k. The images that do
    not fill a batch wait for another epoch's order.

    Returns:
        (images float32 [batch, size, size, 3], targets int32 [batch]), of known cardinality.
    """
    count = len(cache)
    steps = steps_per_epoch(cache, recipe)
    lookup, targets = cache.lookup(), tf.constant(cache.targets)
    view = RandomView(recipe.image_size, recipe.smallest_view)

    def one_epoch(epoch):
        seed = tf.stack([tf.constant(recipe.seed, tf.int64), epoch])
        order = tf.random.experimental.stateless_shuffle(tf.range(count), seed=seed)
        order = order[: steps * recipe.batch_size]
        draws = tf.random.stateless_uniform((count, DRAW_COUNT), seed=seed)
        return tf.data.Dataset.from_tensor_slices((order, tf.gather(draws, order)))

    def example(index, draws):
        image = view({"images": lookup(index), DRAWS: draws})["images"]
        return preprocess.normalise(image), targets[index]

    batches = (
        tf.data.Dataset.range(first_epoch, first_epoch + epochs)
        .flat_map(one_epoch)
        .map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .batch(recipe.batch_size, drop_remainder=True)
    )
    # Keras runs an extra step an epoch on a data set whose length it does not know.
    return preprocess.untuned(batches.apply(tf.data.experimental.assert_cardinality(steps * epochs)).prefetch(2))


def steps_per_epoch(cache: ImageCache, recipe) -> int:
    """Full batches in an epoch.

    Raises:
        ValueError: the images do not fill one batch.
    """
    steps = len(cache) // recipe.batch_size
    if not steps:
        raise ValueError(
            f"There are {len(cache)} training images, fewer than one batch of {recipe.batch_size}: "
            "choose a smaller --batch-size."
        )
    return steps


def evaluation_batches(cache: ImageCache, recipe) -> tf.data.Dataset:
    """Return centre crops in order: (images float32 [<= batch, size, size, 3], targets int32)."""
    lookup, targets = cache.lookup(), tf.constant(cache.targets)

    def example(index):
        image = preprocess.centre_crop(lookup(index), recipe.image_size)
        return preprocess.normalise(image), targets[index]

    indices = tf.data.Dataset.range(len(cache))
    batches = indices.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return preprocess.untuned(batches.batch(recipe.batch_size).prefetch(2))
