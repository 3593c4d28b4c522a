"""A data set as it was prepared: its tables, which need no TensorFlow, and its images, which do."""

import contextlib
import dataclasses
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from datasets.bach_bisque import replacing
from datasets.catalogue import (
    ALIKE,
    GROUPS,
    PHANTOM,
    SCALES,
    UNLABELLED,
    VERSION,
    Collection,
    Record,
    get_collections,
    with_known_group,
)
from datasets.data_root import data_root
from datasets.errors import MissingError, UserError, working
from datasets.labels import LABELS
from datasets.own.collection import own_collection
from datasets.own.names import is_own, options_of

_FIELDS = tuple(field.name for field in dataclasses.fields(Record))


@dataclass(frozen=True)
class Summary:
    """What a prepared config holds."""

    config: str
    path: Path
    version: str
    images: int
    labels: dict[str, int]  # name -> number of images; a label without images is left out
    sources: dict[str, int]  # collection -> number of images
    groups: int  # number of known patients or microarrays
    ungrouped: int  # number of images whose patient or microarray is unknown
    test_images: int  # number of unlabelled test images
    built: bool = False  # whether this call built it, rather than found it
    updated_from: str = ""  # the version whose records this call brought up to date, if it did

    @property
    def groups_in_words(self) -> str:
        """Such as ``29 patients known, 255 images unknown``."""
        kind = " or ".join(sorted({GROUPS.get(source, "patients") for source in self.sources}, reverse=True))
        if not self.ungrouped:
            return f"{self.groups} {kind}"
        return f"{self.groups} {kind} known, {self.ungrouped} images unknown"


class Prepared:
    """A config of the data set in a folder of data sets, prepared or not yet.

    Whatever reads it raises a ``MissingError`` where it is not prepared, and a ``UserError`` where its files are
    damaged. The tables are read from the files that TFDS wrote: importing TensorFlow takes seconds, so only ``load``
    and ``differences`` do it.
    """

    def __init__(self, config: str, data_dir: Path | None = None):
        if not is_own(config):
            get_collections(config)  # refuses an unknown name
        self.config, self.data_dir, self.root = config, data_dir, data_root(data_dir)
        self.target = self.root / "bach_bisque" / config / VERSION  # where it is prepared, or will be
        self.measured = None  # sizes and times of its files, right before ``differences`` read them

    @property
    def folder(self) -> Path:
        """The folder that is read: that of the newest version that is there, else ``target``."""
        alike = (self.target.with_name(version) for version in (VERSION, *ALIKE))
        return next(filter(_is_built, alike), self.target)

    @property
    def is_there(self) -> bool:
        """Whether it is prepared."""
        return self.is_built and bool(self.tables)

    @property
    def is_built(self) -> bool:
        """Whether its files are there, damaged or not."""
        return _is_built(self.folder)

    @property
    def older_versions(self) -> list[Path]:
        """The folders that earlier versions of the builder prepared and that are not read."""
        return sorted(path for path in self.target.parent.glob("[0-9]*") if path != self.folder)

    @property
    def is_older(self) -> bool:
        """Whether what is read is of an earlier version."""
        return self.is_built and self.folder != self.target

    @cached_property
    def tables(self) -> dict[str, list[dict]]:
        """The rows of ``train``, all labelled images, and of ``test``, BACH's unlabelled ones, where they are there.

        A row has the fields of a ``Record``, and ``sha256``, that of the image's size and pixels. Its group is what the
        records hold; ``records`` has what is known today.
        """
        if not self.is_built:
            source = "" if self.config == PHANTOM.name or is_own(self.config) else " --source DIR_OR_ZIP"
            older = f" in version {VERSION}, only in {self.older_versions[-1].name}" if self.older_versions else ""
            others = own_sets(self.data_dir) if is_own(self.config) else []
            named = f" Of your own images there is {', '.join(others)}." if others else ""
            raise MissingError(
                f"{self.config} is not prepared in {self.root}{older}: run "
                f"`python cli.py data prepare {options_of(self.config)}{source}` first.{named}"
            )
        with self._reading():
            json.loads((self.folder / "dataset_info.json").read_text("utf-8"))
            tables = json.loads((self.folder / "metadata.json").read_text("utf-8"))
            rows = [row for table in tables.values() for row in table]
            known = all(isinstance(row[name], str) for row in rows for name in (*_FIELDS, "sha256"))
            known &= all(_is_scale(row.get("um_per_pixel")) for row in rows)
            if not tables["train"] or not known or not {row["label"] for row in rows} <= {*LABELS, UNLABELLED}:
                raise ValueError("metadata.json is not a table of images")
        return tables

    @property
    def records(self) -> list[Record]:
        """The labelled images, with the patients that are known today, whatever version prepared them."""
        return [with_known_group(record_of(row)) for row in self.tables["train"]]

    @property
    def collections(self) -> tuple[Collection, ...]:
        """What it is made of; that of own images is known only from its tables."""
        if is_own(self.config):
            return (own_collection(self.config, self.records, self.digests),)
        return get_collections(self.config)

    @property
    def digests(self) -> dict[str, str]:
        """File name -> the SHA-256 of each labelled image's size and pixels when it was prepared."""
        return {row["filename"]: row["sha256"] for row in self.tables["train"]}

    @property
    def scales(self) -> dict[str, float | None]:
        """File name -> the micrometres a pixel of each labelled image, None where they are unknown."""
        return {row["filename"]: row.get("um_per_pixel", SCALES.get(row["source"])) for row in self.tables["train"]}

    def summary(self) -> Summary:
        """Count what it holds, without reading pixels."""
        return summary_of(self.records, self.config, self.folder, self.folder.name, len(self.tables.get("test", ())))

    def check_names(self, filenames: Iterable[str]) -> None:
        """Refuse names that are not those of labelled images."""
        check_names(self, filenames)

    def load(self, filenames: Iterable[str] | None = None):
        """Read the labelled images, or those that are named, in an order that is always the same.

        Returns:
            A ``tf.data.Dataset`` of known cardinality: dicts of image (uint8 RGB [H, W, 3]), label (int64 [], an index
            of ``LABELS``), and filename, group and source (string []).
        """
        wanted = set(self.digests if filenames is None else filenames)
        self.check_names(wanted)

        import tensorflow as tf
        import tensorflow_datasets as tfds

        builder = self._builder()
        with self._reading():
            # Shards are read one after the other, so that the order depends on the keys alone. Images are decoded only
            # after the filter.
            dataset = builder.as_dataset(
                split="train",
                read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
                decoders={"image": tfds.decode.SkipDecoding()},
            )
        if filenames is not None:
            names = tf.constant(sorted(wanted), tf.string)
            dataset = dataset.filter(lambda example: tf.reduce_any(example["filename"] == names))
            dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(wanted)))
        if self.is_older:
            known = {record.filename: record.group for record in self.records}
            listed, groups = tf.constant(list(known), tf.string), tf.constant(list(known.values()), tf.string)
            dataset = dataset.map(lambda example: example | {"group": groups[tf.argmax(listed == example["filename"])]})
        return dataset.map(
            lambda example: example | {"image": tf.io.decode_png(example["image"], channels=3)},
            num_parallel_calls=tf.data.AUTOTUNE,
        )

    def differences(self) -> list[str]:
        """Read every record again, and return a sentence for each record or file that is not as it was prepared."""
        from datasets.bach_bisque import verified, verify

        self.measured = verified.measure(self.folder)
        tables, files = self.tables, self.files()
        with working():
            return verify.differences(tables, files)

    def files(self) -> dict[str, list[Path]]:
        """Name the files of records of each split."""
        tables, builder = self.tables, self._builder()
        with self._reading():
            return {split: [Path(path) for path in builder.info.splits[split].filepaths] for split in tables}

    def _builder(self):
        from datasets.bach_bisque.bach_bisque_dataset_builder import Builder

        with self._reading():
            return Builder(config=self.config, data_dir=self.root, version=self.folder.name)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (OSError, UserError):
            raise
        except Exception as error:  # TFDS and its parsers raise errors of many kinds on damaged files
            raise UserError(
                f"What is prepared in {self.folder} is damaged ({error}): prepare it again with "
                f"`data prepare {options_of(self.config)} --overwrite`."
            ) from error


def own_sets(data_dir: Path | None = None) -> list[str]:
    """Return the configurations of a user's own images in a folder of data sets, sorted."""
    root = data_root(data_dir) / "bach_bisque"
    return sorted(path.name for path in root.iterdir() if is_own(path.name)) if root.is_dir() else []


def summary_of(records: list[Record], config: str, path: Path, version: str, test_images: int) -> Summary:
    """Count the labelled images of what is prepared in a folder."""
    return Summary(
        config=config,
        path=path,
        version=version,
        images=len(records),
        labels=dict(Counter(record.label for record in records)),
        sources=dict(Counter(record.source for record in records)),
        groups=len({record.group for record in records} - {""}),
        ungrouped=sum(not record.group for record in records),
        test_images=test_images,
    )


def check_names(opened, filenames: Iterable[str]) -> None:
    """Refuse names that are not those of a set's labelled images; it has ``config`` and ``digests``."""
    unknown = sorted(set(filenames) - set(opened.digests))
    if unknown:
        raise UserError(f"{opened.config} holds no image {', '.join(unknown[:3])} ({len(unknown)} unknown names).")


def record_of(row: dict) -> Record:
    """Return what a row of ``Prepared.tables`` says of an image."""
    return Record(**{name: row[name] for name in _FIELDS})


def _is_scale(value) -> bool:
    """Whether a row may say this of an image's micrometres a pixel; None where they are unknown."""
    return value is None or (isinstance(value, int | float) and 0 < value < math.inf)


def _is_built(folder: Path) -> bool:
    replacing.restore(folder)
    return all((folder / name).is_file() for name in ("dataset_info.json", "metadata.json"))
