"""From records to batches: resized once and kept in memory, then augmented each epoch."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from bach_keras import preprocess
from bach_keras.evidence.stains import tally
from bach_keras.preprocess import View
from bach_keras.wording import counted
from datasets.augment import DRAWS, Brightness, RandomView, StainJitter, uniform_draws
from datasets.errors import UserError
from datasets.labels import LABELS


@dataclass(frozen=True)
class ImageCache:
    """Images whose shorter side is the training size, those of one shape in one tensor.

    Any image is found at once, so an epoch's order is a plain permutation and needs no shuffle buffer.
    """

    stacks: tuple[tf.Tensor, ...]  # uint8 [n, H, W, 3], one for each shape there is
    places: np.ndarray  # int32 [images, 2], each image's stack and its row there
    targets: np.ndarray  # int32 [images], each image's answer
    filenames: tuple[str, ...]
    # Which of them the stain normalisation left as they are, see ``bach_keras.evidence.stains``; None without one.
    stains: dict | None = None

    def __len__(self):
        return len(self.filenames)

    @property
    def counts(self) -> list[int]:
        """How many images have each of a node's two answers."""
        return np.bincount(self.targets, minlength=2).tolist()

    def squares(self, indices, cut):
        """Return squares of some images in the order of their indices, for use inside tf.data.

        Only images of one shape make a batch, so they are cut a shape at a time.

        Args:
            indices: int [n].
            cut: takes uint8 [m, H, W, 3] and int32 [m], which of the n these are; returns [m, size, size, 3].
        """
        # Each shape's rows are cut together, and then put back where their indices stand.
        places = tf.gather(self.places, indices)
        rows = [tf.cast(tf.where(places[:, 0] == number)[:, 0], tf.int32) for number in range(len(self.stacks))]
        parts = [
            cut(tf.gather(stack, tf.gather(places[:, 1], those)), those)
            for stack, those in zip(self.stacks, rows, strict=True)
        ]
        return tf.dynamic_stitch(rows, parts)


def cache_images(records: tf.data.Dataset, targets: dict[int, int], view: View) -> ImageCache:
    """Resize every record and normalise its stain, once.

    Args:
        records: dicts with ``image`` uint8 [H, W, 3], ``label`` and ``filename``.
        targets: label index -> the node's answer; every record's label must be in it.
        view: what the shorter side becomes, and which stain normalisation is applied.
    """

    def resized(record):
        return (*view.resized(record["image"]), record["label"], record["filename"])

    # The stacks grow in place: hundreds of separate images would leave the heap in pieces, twice the cache's size.
    stacks, places, answers, names, labels, normalised = {}, [], [], [], [], []
    for image, known, label, name in preprocess.untuned(records.map(resized, num_parallel_calls=tf.data.AUTOTUNE)):
        pixels = image.numpy()
        stack = stacks.setdefault(pixels.shape, bytearray())
        places.append((list(stacks).index(pixels.shape), len(stack) // pixels.size))
        stack += pixels.data
        answers.append(targets[int(label)])
        names.append(name.numpy().decode())
        labels.append(LABELS[int(label)])
        normalised.append(bool(known))
    method = view.stain_normalisation
    shapes = list(stacks)
    return ImageCache(
        stacks=tuple(tf.constant(np.frombuffer(stacks.pop(shape), np.uint8).reshape(-1, *shape)) for shape in shapes),
        places=np.array(places, np.int32).reshape(-1, 2),
        targets=np.array(answers, np.int32),
        filenames=tuple(names),
        stains=None if method == "none" else tally(method, labels, normalised),
    )


def training_batches(cache: ImageCache, recipe, first_epoch: int, epochs: int) -> tf.data.Dataset:
    """Return augmented batches of some epochs, end to end.

    Order and augmentation follow from (seed, epoch, index) alone, so epoch k is
    the same whether the run began at 0 or was resumed at k. The images that do
    not fill a batch wait for another epoch's order.

    Returns:
        (images float32 [part, size, size, 3], targets int32 [part]), of known cardinality; of a recipe with class
        weights also each image's weight, float32 [part].
    """
    count = len(cache)
    steps = steps_per_epoch(count, recipe)
    view = RandomView(recipe.image_size, recipe.smallest_view, recipe.crops)
    amounts = {StainJitter: recipe.stain_jitter, Brightness: recipe.brightness}
    colours = [layer(amount) for layer, amount in amounts.items() if amount]
    answers = _answers(cache, recipe)

    # A stateful shuffle or random layer would start again at epoch 0 in a resumed run, so each epoch has its own seed.
    def one_epoch(epoch):
        seed = tf.stack([tf.constant(recipe.seed, tf.int64), epoch])
        order = tf.random.experimental.stateless_shuffle(tf.range(count), seed=seed)
        # The draws follow the image and not its place in the order: an image's own never depend on its neighbours.
        order = tf.reshape(order[: steps * recipe.part_size], (steps, recipe.part_size))
        return tf.data.Dataset.from_tensor_slices((order, tf.gather(uniform_draws(count, seed), order)))

    def batch(indices, draws):
        def cut(images, rows):
            return view({"images": images, DRAWS: tf.gather(draws, rows)})["images"]

        # The square is cut before the colours change, which spares the work on pixels that are thrown away.
        images = cache.squares(indices, cut)
        for layer in colours:
            images = layer({"images": images, DRAWS: draws})["images"]
        return preprocess.normalise_squares(images), *(tf.gather(each, indices) for each in answers)

    batches = (
        tf.data.Dataset.range(first_epoch, first_epoch + epochs)
        .flat_map(one_epoch)
        # Batches may be made side by side, but they come in the order of the epoch.
        .map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    )
    # Keras runs an extra step an epoch on a data set whose length it does not know.
    return preprocess.untuned(batches.apply(tf.data.experimental.assert_cardinality(steps * epochs)).prefetch(2))


def _answers(cache: ImageCache, recipe) -> tuple[np.ndarray, ...]:
    """Return the images' answers, and what each counts in the loss where that is not alike."""
    # Each split is weighted by its own counts, so that in both the two classes count alike where they are balanced.
    weights = recipe.weights_for(cache.counts)
    return (cache.targets,) if weights is None else (cache.targets, np.array(weights, np.float32)[cache.targets])


def steps_per_epoch(count: int, recipe) -> int:
    """Return the steps of an epoch of so many images: its full batches, each in as many parts as the recipe says."""
    batches = count // recipe.batch_size
    if not batches:
        raise UserError(
            f"There {'is' if count == 1 else 'are'} {counted(count, 'training image')}, fewer than one batch of "
            f"{recipe.batch_size}: choose a smaller --batch-size."
        )
    return batches * recipe.accumulate


def evaluation_batches(cache: ImageCache, recipe) -> tf.data.Dataset:
    """Return centre crops in order, else what ``training_batches`` does; the last batch may be smaller."""
    answers = _answers(cache, recipe)

    def batch(indices):
        squares = cache.squares(indices, lambda images, _: preprocess.centre_crop(images, recipe.image_size))
        return preprocess.normalise_squares(squares), *(tf.gather(each, indices) for each in answers)

    batches = tf.data.Dataset.range(len(cache)).batch(recipe.batch_size)
    batches = batches.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return preprocess.untuned(batches.prefetch(2))
