"""Images of a user's that show the tissue of another: cut, turned, scaled, mirrored or stained otherwise."""

import dataclasses
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from datasets.ahead import ahead, image_threads
from datasets.bach_bisque.prepared import Prepared
from datasets.duplicates.copies import Copy, Sketchbook
from datasets.duplicates.sketch import Sketch
from datasets.errors import UserError
from datasets.own.copies import name_beside_others
from datasets.progress import bar
from datasets.wording import counted

LOG = logging.getLogger(__name__)

_LISTED = 3
# Nobody looks at more pairs than these, and images that are all alike have millions.
_KEPT = 10_000


@dataclass(frozen=True)
class Near:
    """The pairs that show the same tissue: those most alike, and how many were found in all."""

    pairs: list[Copy]
    found: int


def find_near(prepared: Prepared, others: Iterable[Prepared]) -> Near:
    """Find the pairs of an image of a set and another one, of it or of another set, that show the same tissue.

    Images of the same pixels are left out: they are known, and named as what they are.
    """
    own, digests, sets = prepared.digests, {}, []
    for each in (prepared, *others):
        # Without what is there already, as bach_bisque holds what bach does.
        new = {name: digest for name, digest in each.digests.items() if name not in digests}
        digests |= new
        sets.append((each, list(new)))

    def is_wanted(first: str, second: str) -> bool:
        return (first in own or second in own) and digests[first] != digests[second]

    # On the disk of the set, so that a sentence on a full disk names the right one.
    with Sketchbook(prepared.root) as sketches:
        images = (image for each, names in sets for image in _images(each, names))
        made = ahead(lambda image: (image[0], Sketch.of(image[1])), images, image_threads())
        for name, sketch in bar(made, what="Looking for copies", total=len(digests)):
            sketches.add(name, sketch)
        pairs, count = sketches.find_most_alike(is_wanted, _KEPT)
    sources = {record.filename: record.source for each, _ in sets for record in each.records}
    named = [
        dataclasses.replace(pair, **{side: name_beside_others(name, sources[name]) for side, name in _sides(pair)})
        for pair in pairs
    ]
    return Near(named, count)


def _sides(pair: Copy) -> tuple[tuple[str, str], ...]:
    return ("first", pair.first), ("second", pair.second)


def _images(prepared: Prepared, names: list[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the named images; a set that is damaged ends early, with a warning."""
    import tensorflow as tf

    try:
        for record in prepared.load(names).as_numpy_iterator() if names else ():
            yield record["filename"].decode(), record["image"]
    except (OSError, UserError, tf.errors.OpError):
        LOG.warning(
            f"{prepared.config} is damaged, so not all of its images were looked at: run `data verify --config "
            f"{prepared.config}`."
        )


def report(near: Near) -> None:
    """Name the pairs that were found."""
    if near.pairs:
        named = "; ".join(map(_in_words, near.pairs[:_LISTED]))
        more = f"; and {near.found - _LISTED} more" if near.found > _LISTED else ""
        LOG.warning(
            f"Of the same tissue, as far as a comparison tells: {counted(near.found, 'pair')} of images: "
            f"{named}{more}. "
            "Look at them: only images of one patient are kept together in a split."
        )


def _in_words(pair: Copy) -> str:
    return f"{pair.first} and {pair.second}, {pair.orientation}, scaled by {pair.scale:.2f}"


def as_facts(near: Near) -> dict:
    return {"near_copies": [dataclasses.asdict(pair) for pair in near.pairs], "near_copies_found": near.found}
