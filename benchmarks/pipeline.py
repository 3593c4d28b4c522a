"""Images a second of the data pipeline, stage by stage: ``python -m benchmarks.pipeline [--config phantom]``.

With ``--source DIR`` it first times the preparation itself, into a folder that is removed again.
After that it goes from the prepared records to the cache, and from the cache to batches of ten normalised images, with
albumentations in threads and Keras's own layers in tf.data on the same cached images for comparison. In every round
the sides alternate, so that a drift of the machine's speed affects them alike; what a side prepared while it waited is
discarded first. Run it on an idle machine nevertheless. Needs requirements-bench.txt.
"""

import argparse
import functools
import importlib.util
import itertools
import multiprocessing
import os
import platform
import re
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

from datasets.labels import LABELS

THREADS = 2
IMAGES = 64  # of the config, so that a round stays short
WAITING = 12  # batches to discard, more than the data sets prepare ahead
JITTER = 0.05
ANSWERS = dict.fromkeys(range(len(LABELS)), 0)  # the labels do not matter here
BATCH, VIEW, STAIN = "batch", "batch, view", "batch, view, stain jitter"
PACKAGES = ("tensorflow", "keras", "keras-cv", "albumentations", "opencv-python-headless")


def record_stages(config, data_dir, decoded, recipe):
    """Return stage -> a callable that does it for the images of ``decoded``, and counts them."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    from bach_keras import preprocess
    from bach_keras.training.batches import cache_images
    from datasets.bach_bisque.bach_bisque_dataset_builder import Builder

    raw = Builder(config=config, data_dir=data_dir).as_dataset(
        split="train",
        read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
        decoders={"image": tfds.decode.SkipDecoding()},
    )

    def resized(record):
        return preprocess.resize_shorter(record["image"], recipe.image_size)

    def normalised(method):
        def run(record):
            return preprocess.normalise_stain(resized(record), recipe.image_size, method)

        return run

    stages = {
        "read": raw.take(IMAGES),
        "read, decode": decoded,
        "read, decode, resize": decoded.map(resized, num_parallel_calls=tf.data.AUTOTUNE),
    }
    for method in ("macenko", "reinhard"):
        mapped = decoded.map(normalised(method), num_parallel_calls=tf.data.AUTOTUNE)
        stages[f"read, decode, resize, {method}"] = mapped
    runs = {name: functools.partial(_count, preprocess.untuned(data)) for name, data in stages.items()}
    return {**runs, "all of it, into the cache": lambda: len(cache_images(decoded, ANSWERS, recipe.view))}


def _count(data):
    return sum(1 for _ in data)


def _endless(data):
    """Return a callable that takes some batches of a data set without end, and counts their images."""
    batches = iter(data)

    def run(count):
        taken = itertools.islice(batches, count)
        return sum(len(batch[0] if isinstance(batch, tuple) else batch) for batch in taken)

    return run


def ours(cache, recipe):
    """Return stage -> a callable that makes some batches, as training does."""
    from dataclasses import replace

    from bach_keras.training.batches import evaluation_batches, training_batches

    epochs = 10**6
    return {
        BATCH: _endless(evaluation_batches(cache, recipe).repeat()),
        VIEW: _endless(training_batches(cache, recipe, 0, epochs)),
        STAIN: _endless(training_batches(cache, replace(recipe, stain_jitter=JITTER), 0, epochs)),
    }


def albumentations(cache, recipe):
    """The same work on the same images, each image in one of the threads; its HEStain is the stain jitter."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # otherwise it looks for a newer version
    import albumentations as A  # noqa: N812 - its own habit
    import cv2
    import numpy as np

    cv2.setNumThreads(1)
    size = recipe.image_size
    images = [image for stack in cache.stacks for image in stack.numpy()]
    turn = A.Affine(
        rotate=(-180, 180), scale=(1, 1 / recipe.smallest_view), border_mode=cv2.BORDER_REFLECT, p=1
    )  # fmt: skip
    views = [A.RandomCrop(size, size), A.HorizontalFlip(p=0.5), turn]
    stain = A.HEStain(
        method="preset", preset="ruifrok", intensity_scale_range=(1 - JITTER, 1 + JITTER),
        intensity_shift_range=(-JITTER, JITTER), augment_background=True, p=1,
    )  # fmt: skip
    pool = ThreadPoolExecutor(THREADS)

    def endless(*steps):
        # A pipeline stores the draws of its last image, so each thread has its own.
        pipelines = [A.Compose([*steps, A.Normalize()], seed=thread) for thread in range(THREADS)]
        order = itertools.cycle(range(len(images)))

        def share(thread, indices):
            return [pipelines[thread](image=images[index])["image"] for index in indices]

        def run(count):
            made = 0
            for _ in range(count):
                batch = list(itertools.islice(order, recipe.batch_size))
                parts = pool.map(share, range(THREADS), [batch[thread::THREADS] for thread in range(THREADS)])
                made += len(np.stack(list(itertools.chain(*parts))))
            return made

        return run

    return {BATCH: endless(A.CenterCrop(size, size)), VIEW: endless(*views), STAIN: endless(*views, stain)}


def keras_layers(cache, recipe):
    """The same work in Keras's preprocessing layers, on batches in tf.data; they have no stain jitter."""
    import keras
    import tensorflow as tf

    from bach_keras.preprocess import DEVIATION, MEAN, untuned

    layers = keras.layers
    size, stack = recipe.image_size, max(cache.stacks, key=len)
    normal = layers.Normalization(mean=[255 * m for m in MEAN], variance=[(255 * d) ** 2 for d in DEVIATION])
    views = [
        layers.RandomCrop(size, size),
        layers.RandomFlip("horizontal"),
        layers.RandomRotation(0.5, fill_mode="reflect"),
        layers.RandomZoom((recipe.smallest_view - 1, 0), fill_mode="reflect"),
    ]

    def endless(*steps):
        def batch(images):
            for layer in steps:
                images = layer(images, training=True)
            return normal(tf.cast(images, tf.float32))

        batch(stack[:1])  # a layer makes its variables at its first call, which must not be a traced one
        data = tf.data.Dataset.from_tensor_slices(stack).repeat().batch(recipe.batch_size, drop_remainder=True)
        return _endless(untuned(data.map(batch, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)))

    return {BATCH: endless(layers.CenterCrop(size, size)), VIEW: endless(*views)}


SIDES = {"ours": ours, "albumentations": albumentations, "Keras layers": keras_layers}


def measure(sides, batches, rounds):
    """Return side -> images a second, one value a round, the sides alternating.

    The images are those that came: the last batch of a pass may hold fewer than the others.
    """
    rates = {side: [] for side in sides}
    for _ in range(rounds):
        for side, run in sides.items():
            run(WAITING)
            start = time.perf_counter()
            images = run(batches)
            rates[side].append(images / (time.perf_counter() - start))
    return rates


def row(stage, rates):
    """Return the stage's line of the table: medians, and ours over the best peer, round by round."""
    medians = {side: statistics.median(values) for side, values in rates.items()}
    best = max((side for side in medians if side != "ours"), key=medians.get)
    ratios = [own / peer for own, peer in zip(rates["ours"], rates[best], strict=True)]
    cells = [f"{medians[side]:.0f}" if side in medians else "" for side in SIDES]
    spread = f"{min(ratios):.2f} - **{statistics.median(ratios):.2f}** - {max(ratios):.2f} of {best}"
    return f"| {stage} | {' | '.join(cells)} | {spread} |"


def cache_memory(count, shape, recipe):
    """Return the MB that a cache of images of one shape adds to a process, once filled and while it is trained on."""
    import tensorflow as tf

    from bach_keras.training.batches import cache_images, training_batches

    def record(index):
        image = tf.random.stateless_uniform(shape, (0, index), 0, 256, tf.int32)
        return {"image": tf.cast(image, tf.uint8), "label": tf.constant(0), "filename": tf.strings.as_string(index)}

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    def after_training(records):
        cache = cache_images(records, {0: 0}, recipe.view)
        filled = resident()
        _endless(training_batches(cache, recipe, 0, 10))(30)
        return filled, resident()

    records = tf.data.Dataset.range(count).map(record)
    # The memory that TensorFlow itself takes on its first use is not part of the cache.
    after_training(records.take(2 * recipe.batch_size))
    before = resident()
    return [held - before for held in after_training(records)]


def preparation(config, source):
    """Return how many images a preparation from a folder or zip built, and its seconds."""
    from datasets.bach_bisque.prepare import prepare_dataset

    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        summary = prepare_dataset(config, source, folder, overwrite=True)
        return summary.images + summary.test_images, time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="phantom", help="a prepared data set (phantom)")
    parser.add_argument("--data-dir", type=Path, help="where data sets live")
    parser.add_argument("--source", type=Path, help="also time preparing the data set from this folder or zip")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each side (7)")
    parser.add_argument("--batches", type=int, default=30, help="batches a turn (30)")
    given = parser.parse_args()
    if min(given.rounds, given.batches) < 1:
        parser.error("--rounds and --batches must be at least 1")
    if not importlib.util.find_spec("albumentations"):
        parser.error("albumentations is not installed here: pip install -r requirements-bench.txt")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(THREADS)
    tf.config.set_visible_devices([], "GPU")
    from bach_keras.recipe import PAPER
    from bach_keras.training.batches import cache_images
    from datasets.bach_bisque.prepare import prepare_dataset
    from datasets.bach_bisque.prepared import Prepared

    if given.config == "phantom":
        prepare_dataset("phantom", data_dir=given.data_dir)
    if given.source:
        try:
            count, seconds = preparation(given.config, given.source)
        except (OSError, ValueError) as error:
            parser.error(str(error))
        print(
            f"{given.config}, {count} images prepared in {seconds:.1f} s: {count / seconds:.1f} images/s\n", flush=True
        )
    records = Prepared(given.config, given.data_dir).load().take(IMAGES)
    cache = cache_images(records, ANSWERS, PAPER.view)
    print(
        f"{given.config}, {len(cache)} images, to batches of {PAPER.batch_size} at {PAPER.image_size}; images/s, "
        f"medians of {given.rounds} rounds\n"
    )
    print("| from the records | images/s |\n|---|---|")
    for stage, run in record_stages(given.config, given.data_dir, records, PAPER).items():
        run()
        seconds = []
        for _ in range(given.rounds):
            start = time.perf_counter()
            count = run()
            seconds.append((time.perf_counter() - start) / count)
        print(f"| {stage} | {1 / statistics.median(seconds):.0f} |", flush=True)
    made = {side: build(cache, PAPER) for side, build in SIDES.items()}
    print(f"\n| from the cache | {' | '.join(SIDES)} | ours / best peer: min - median - max |")
    print("|---" * (len(SIDES) + 2) + "|")
    for stage in (BATCH, VIEW, STAIN):
        sides = {side: stages[stage] for side, stages in made.items() if stage in stages}
        print(row(stage, measure(sides, given.batches, given.rounds)), flush=True)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        filled, trained = pool.submit(cache_memory, 400, (288, 384, 3), PAPER).result()
    print(f"\nA cache of BACH's 400 images of 384x288: {filled:.0f} MB, {trained:.0f} MB with batches under way")
    chips = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text()) or [platform.machine()]
    packages = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    print(f"\n{chips[0]}, {os.cpu_count()} cores, {THREADS} threads each; {packages}")


if __name__ == "__main__":
    main()
