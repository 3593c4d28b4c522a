"""One look at each of the images that trained a tree, for what its export knows of them."""

import functools
import logging
import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from bach_keras.evidence.neighbours import Index, Known
from bach_keras.evidence.quality import measures, scale_of_blur
from bach_keras.evidence.ranges import Ranges, fit, middle
from bach_keras.evidence.thumbnails import small
from bach_keras.preprocess import untuned
from bach_keras.provenance import Provenance
from bach_keras.wording import counted
from datasets.ahead import ahead
from datasets.bach_bisque.prepared import Prepared
from datasets.catalogue import MAY_BE_PASSED_ON, SCALES
from datasets.errors import UserError
from datasets.images.ahead import THREADS
from datasets.labels import LABELS
from datasets.progress import bar
from datasets.sets import group_in_a_join, open_parts

LOG = logging.getLogger(__name__)

# An index is a part of the export, and every answer is compared with all of it.
MOST = 4096
BATCH = 8

# Of a thumbnail's longer side, in pixels: about 4 kB.
SIDE = 128


@dataclass(frozen=True)
class TrainingImages:
    """Those of a system's training images that are prepared on this disk; of more than ``MOST``, always the same.

    An image whose pixels are others than those that trained it, as its set was prepared anew, is not one of them.
    Iterates over what ``Prepared.load`` gives of each. A UserError is raised where none of them is there.
    """

    configs: Collection[str]  # where to look
    provenance: Provenance
    data_dir: Path | None = None

    @property
    def um_per_pixel(self) -> float | None:
        """Of the middle one of those whose micrometres a pixel are known."""
        return middle(scale for prepared, names in self._found for scale in map(prepared.scales.get, names))

    @functools.cached_property
    def _found(self) -> list[tuple[Prepared, list[str]]]:
        wanted, found, errors, changed = set(self.provenance.trained_on), [], [], 0
        for prepared in open_parts(self.configs, self.data_dir):
            try:
                digests = {name: digest for name, digest in prepared.digests.items() if name in wanted}
            except UserError as error:
                errors.append(str(error))
                continue
            names = self.provenance.unchanged(digests)
            changed += len(digests) - len(names)
            wanted -= set(digests)
            found += [(prepared, name) for name in names]
        if changed:
            LOG.warning(
                f"{counted(changed, 'image')} that trained it had other pixels then: the export knows nothing of what "
                "is prepared under the same name today."
            )
        if not found:
            raise UserError(errors[0] if errors else "None of the images that trained it is prepared on this disk.")
        taken = set(random.Random(0).sample(found, min(MOST, len(found))))
        by_set = {prepared: [name for each, name in taken if each is prepared] for prepared, _ in found}
        return [(prepared, names) for prepared, names in by_set.items() if names]

    def __len__(self):
        return sum(len(names) for _, names in self._found)

    def __iter__(self) -> Iterator[dict]:
        for prepared, names in self._found:
            scales = prepared.scales
            try:
                for record in untuned(prepared.load(names)).as_numpy_iterator():
                    record["um_per_pixel"] = scales[record["filename"].decode()]
                    if len(self._found) > 1:
                        record["group"] = group_in_a_join(record["group"].decode(), record["source"].decode()).encode()
                    yield record
            except tf.errors.OpError as error:
                raise UserError(f"A record in {prepared.folder} cannot be read ({error.message}).") from error


@dataclass(frozen=True)
class Survey:
    """What was seen of them."""

    index: Index
    measures: tuple[dict, ...]  # of each image of the index, in its order, as ``ranges.fit`` takes them

    @property
    def ranges(self) -> Ranges:
        return fit(self.measures, [known.group for known in self.index.images], self.index.own)


def survey(tree, training) -> Survey:
    """Look at images in one pass, ahead in threads.

    Args:
        tree: a ``Hierarchy``.
        training: a ``TrainingImages``, or a list of such dicts.
    """
    is_open = isinstance(training, TrainingImages)
    usual = training.um_per_pixel if is_open else middle(map(_scale, training))
    size, width = tree.prepare(np.zeros((1, 1, 3), np.uint8)).shape[:2]
    ask = tf.function(tree.features, input_signature=[tf.TensorSpec([None, size, width, 3], tf.uint8)])
    images, measured, parts, features = [], [], [], []
    looks = ahead(functools.partial(_look, tree, usual), training, THREADS, 2 * BATCH)
    for known, of_image, part in bar(looks, what="look at training images", total=len(training)):
        images.append(known)
        measured.append(of_image)
        parts.append(part)
        if len(parts) == BATCH or len(images) == len(training):
            features.append(ask(np.stack(parts)).numpy())
            parts.clear()
    order = sorted(range(len(images)), key=lambda place: images[place].name)
    index = Index.of([images[place] for place in order], np.concatenate(features)[order])
    return Survey(index, tuple(measured[place] for place in order))


def _scale(record: dict) -> float | None:
    return record.get("um_per_pixel", SCALES.get(record["source"].decode()))


def _look(tree, usual: float | None, record: dict) -> tuple[Known, dict, np.ndarray]:
    """Return what is kept of an image, what is measured of it, and what the tree sees of it.

    ``usual`` is the scale that counts for an image whose own is unknown, and at which blur is compared.
    """
    pixels, source = record["image"], record["source"].decode()
    thumbnail = small(pixels, SIDE) if source in MAY_BE_PASSED_ON else b""
    known = Known(record["filename"].decode(), LABELS[record["label"]], record["group"].decode(), thumbnail)
    scale = _scale(record)
    measured = measures(pixels, scale or usual, scale_of_blur(usual))
    measured |= {"um_per_pixel": scale, "side": min(pixels.shape[:2])}
    return known, measured, tree.prepare(pixels).numpy()
