"""Building a set of the user's own images, from a folder with a folder a label or from a CSV file."""

import contextlib
import dataclasses
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from datasets.bach_bisque import replacing
from datasets.bach_bisque.prepare import build
from datasets.bach_bisque.prepared import Prepared, Summary
from datasets.catalogue import PHANTOM
from datasets.download import check_free
from datasets.errors import UserError
from datasets.own import copies, near
from datasets.own.checks import check_headers, check_tissue, is_named_like_mask, refuse_all
from datasets.own.facts import Labelled, changes, file_facts, write_facts
from datasets.own.labels import read_meanings, with_labels
from datasets.own.listing import Listing, read_source
from datasets.own.names import config_of, drawn_names
from datasets.own.staging import Staging, encoded_images
from datasets.patient_names import with_one_spelling
from datasets.progress import bar
from datasets.wording import counted

LOG = logging.getLogger(__name__)

# After so many images it is known how large they become, and so whether the disk holds them all.
_TRIED = 32
# TFDS sorts what is larger on the disk.
_SORTED_IN_MEMORY = 1000 << 20


class Interrupted(KeyboardInterrupt):
    """A preparation that Ctrl-C ended; its sentence says what is kept."""


def prepare_own(
    name: str,
    source: Path,
    data_dir: Path | None = None,
    *,
    meanings: Iterable[str] = (),
    overwrite: bool = False,
) -> Summary:
    """Build config ``own-NAME``, unless it is already there; what is there stays until the new records are complete.

    A preparation that was killed is resumed: images that it encoded, and whose files are the same, are not read again.

    Args:
        source: a folder that holds a folder for each label, or a CSV file.
        meanings: WORD=LABEL for each word of the source that is not a label itself, as ``--label`` takes it.
        overwrite: whether to build again what is already there.
    """
    config = config_of(name)
    prepared = Prepared(config, data_dir)
    listing = read_source(source)
    images = _labelled(config, listing, read_meanings(meanings))
    replacing.clear(prepared.target)  # before the free space is measured
    if prepared.is_built and not overwrite:
        summary = _unchanged(prepared, listing, images)
        _forget_staged(prepared, len(images))
        return summary
    size = check_headers(image.listed for image in images)
    check_tissue((image.listed, image.label) for image in images)
    with replacing.alone(replacing.lock_of(prepared.target), f"another preparation of {config}"):
        replacing.clear_alone(prepared.target)  # the one that was waited for may have been killed
        prepared = Prepared(config, data_dir)
        if prepared.is_built and not overwrite:  # another process built it in the meantime
            return _unchanged(prepared, listing, images)
        _build(prepared, listing, images, size)
    return dataclasses.replace(Prepared(config, data_dir).summary(), built=True)


def _labelled(config: str, listing: Listing, meanings: dict[str, str]) -> list[Labelled]:
    """Give each image its label and its patient's one name, and say what is odd about them."""
    images = with_labels(listing.images, meanings)
    if not images:
        raise UserError(f"{listing.source} has no image left, as --label leaves all of them out.")
    named, joined = with_one_spelling({image.name: image.patient for image, _ in images if image.patient})
    if joined:
        LOG.warning(f"Spellings of patients were joined, each of these lists being one: {'; '.join(joined)}.")
    if masks := [image.name for image, _ in images if is_named_like_mask(image.name)]:
        LOG.warning(
            f"Named like masks: {counted(len(masks), 'image')} ({masks[0]}): take them out if they are not tissue."
        )
    found = [Labelled(image, f"{config}/{image.name}", label, named.get(image.name, "")) for image, label in images]
    _describe(config, found)
    return found


def _describe(config: str, images: list[Labelled]) -> None:
    labels = defaultdict(set)
    for image in images:
        labels[image.group].add(image.label)
    labels.pop("", None)
    if several := sorted(patient for patient, held in labels.items() if len(held) > 1):
        LOG.info(f"With images of several labels, which is allowed: {counted(len(several), 'patient')} ({several[0]}).")
    if len(only := {image.label for image in images}) == 1:
        LOG.warning(
            f"{config} has images of one label only, {only.pop()}: it trains no node by itself, and can judge a model "
            "or be joined with another set."
        )
    if not labels:
        LOG.warning(
            f"The patients of {config} are not known, so images of one patient can be on both sides of a split: a CSV "
            "file with a column patient says them."
        )


def _unchanged(prepared: Prepared, listing: Listing, images: list[Labelled]) -> Summary:
    """Return what is prepared, if it was made from these images."""
    differing = changes(prepared, images)
    if differing:
        raise UserError(
            f"{prepared.config} is prepared already, from other images than {listing.source} holds now: "
            f"{', '.join(differing)}. Prepare it again with --overwrite, or give this set another --name."
        )
    return prepared.summary()


def _staged(prepared: Prepared) -> Path:
    return prepared.target.parent / ".staged"


def _forget_staged(prepared: Prepared, count: int) -> None:
    """Remove the encoded images of a set that is complete, where their preparation was killed right after that."""
    if not _staged(prepared).is_dir():
        return
    with contextlib.suppress(OSError), replacing.if_free(prepared.target) as free:
        if not free:
            return
        with Staging(_staged(prepared)) as staging:
            # Those of an interrupted --overwrite are kept for it, unless it had encoded all: it then starts again. None
            # are left where the removal itself was killed between two files.
            if len(staging) in (0, count):
                staging.discard()


@dataclass
class _Work:
    """A set that is being built."""

    prepared: Prepared
    images: list[Labelled]
    staging: Staging
    rows: list[dict] = field(default_factory=list)
    files: dict[str, dict] = field(default_factory=dict)
    blank: list[str] = field(default_factory=list)  # images with hardly any colours

    def examples(self) -> Iterator[tuple[str, dict, bytes]]:
        """Yield the key, the row of the table and the PNG of each image; refuse all that cannot be read at once."""
        drawn = drawn_names(image.filename for image in self.images)
        refused, size = [], 0
        found = encoded_images([image.listed for image in self.images], self.staging)
        found = bar(found, what="Preparing", total=len(self.images))
        for number, (image, (_, staged, encoded)) in enumerate(zip(self.images, found, strict=True), 1):
            if isinstance(staged, UserError):
                refused.append(str(staged))
                continue
            size += len(encoded)
            if number == _TRIED:
                self._check_room(size / number)
            row = {
                "filename": image.filename,
                "label": image.label,
                "group": image.group,
                "source": self.prepared.config,
                "sha256": staged.sha256,
                "um_per_pixel": image.listed.um_per_pixel or staged.um_per_pixel,
            }
            self.rows.append(row)
            self.files[image.filename] = file_facts(staged)
            if staged.has_few_colours:
                self.blank.append(image.filename)
            yield f"{image.label}/{drawn[image.filename]}", row, encoded
        refuse_all(refused)

    def _check_room(self, mean: float) -> None:
        """Refuse a disk that cannot hold the images encoded and kept, sorted, and in records."""
        size = int(mean * len(self.images))
        copies = 1 if size < _SORTED_IN_MEMORY else 2
        check_free(self.prepared.root, max(size - self.staging.size, 0) + copies * size)

    def finish(self, listing: Listing, folder: Path) -> None:
        """Look for copies, name them, and write what the set was made from beside its records."""
        config, others = self.prepared.config, copies.other_sets(self.prepared.config, self.prepared.data_dir)
        within, elsewhere = copies.same_within(self.rows), copies.same_elsewhere(self.rows, others)
        # No tissue resembles what is drawn.
        similar = near.find_near(Prepared(config, folder.parents[2]), [o for o in others if o.config != PHANTOM.name])
        copies.report(within, elsewhere, {row["filename"]: row["label"] for row in self.rows})
        near.report(similar)
        if self.blank:
            LOG.warning(
                f"With hardly any colours, as blank pictures and masks have: {counted(len(self.blank), 'image')} "
                f"({self.blank[0]})."
            )
        facts = {
            "name": config,
            "source": str(listing.source),
            "images": len(self.rows),
            "labels": dict(sorted(Counter(row["label"] for row in self.rows).items())),
            "patients": len({row["group"] for row in self.rows} - {""}),
            "copies": within,
            "copies_elsewhere": elsewhere,
            **near.as_facts(similar),
            "files": self.files,
        }
        write_facts(folder, facts)


def _build(prepared: Prepared, listing: Listing, images: list[Labelled], size: int) -> None:
    """Build the records; what was encoded before an end by force or Ctrl-C is kept for the next time."""
    with Staging(_staged(prepared)) as staging:
        check_free(prepared.root, max(size - staging.size, 0))  # PNG takes less than the bare pixels
        if len(staging):
            LOG.info(f"Resuming: {counted(len(staging), 'image')} encoded already.")
        work = _Work(prepared, images, staging)
        try:
            build(prepared, finish=lambda folder: work.finish(listing, folder), own=work.examples())
        except KeyboardInterrupt as error:
            # Records, and the search for near copies, are not kept.
            rest = "resumes there" if len(staging) < len(images) else "writes the records and looks for copies again"
            raise Interrupted(
                f"Interrupted: {len(staging)} of {len(images)} images are encoded and kept: the same command {rest}."
            ) from error
        staging.discard()
