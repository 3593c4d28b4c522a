"""The TFDS builder: BACH, BISQUE, both together, or synthetic phantoms."""

import dataclasses
import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core import writer as tfds_writer

from datasets.ahead import ahead, processors
from datasets.bach_bisque import sources, updating
from datasets.bach_bisque.prepared import Prepared, record_of
from datasets.catalogue import ALIKE, PHANTOM, UNLABELLED, VERSION, Collection, Record, get_collections
from datasets.drawing import drawn_by
from datasets.images import png
from datasets.labels import LABELS
from datasets.own.names import is_own, options_of
from datasets.progress import bar

# Threads that read image files at once. Each may hold 60 MB, and more of them would wait for the one that writes.
_MOST_READERS = 8

_LABELS_DOC = (
    "normal: normal tissue; benign: benign lesion, no carcinoma; insitu: carcinoma in situ, inside the "
    "ducts; invasive: carcinoma that has left them; malignant: carcinoma of BISQUE, which does not say which; "
    "-1: BACH's test images, whose labels are not public."
)

_GET_BACH = """\
BACH: ICIAR2018_BACH_Challenge.zip of https://zenodo.org/records/3632035, as it is or unpacked (its licence,
CC BY-NC-ND 4.0, forbids passing it on); the test images, if wanted, in ICIAR2018_BACH_Challenge_TestDataset.zip
next to it."""
_GET_BISQUE = """\
BISQUE: the 58 files ytma*_ccd.tif of the "Breast Cancer Cell" set of
https://bioimage.ucsb.edu/research/bio-segmentation, in a folder of any depth or a zip."""


class NotPreparedError(FileNotFoundError, AssertionError):
    """There is nothing to build a config from; TFDS's own error is an AssertionError."""


@dataclasses.dataclass(eq=False)
class BachBisqueConfig(tfds.core.BuilderConfig):
    """A config of the data set."""

    collections: tuple[Collection, ...] = ()  # by default those of the config of this name in ``datasets.catalogue``
    instructions: str | None = None  # what to put into TFDS's manual folder; None where nothing is needed
    cites: tuple[str, ...] = ()  # keys of the entries of CITATIONS.bib, in addition to the paper's
    licence: str | None = None  # of the images, where it is known


def _first(config: str) -> str:
    source = "" if is_own(config) else " --source DIR_OR_ZIP"
    return f"run `python cli.py data prepare {options_of(config)}{source}` first"


def _own_config(name: str) -> BachBisqueConfig:
    return BachBisqueConfig(name=name, description=f"A user's own labelled images, {name}; the group is the patient.")


class Builder(tfds.core.GeneratorBasedBuilder):
    """Builds ``train``, all labelled images, and ``test``, BACH's unlabelled ones where they are there.

    ``datasets.splits`` says which labelled images train.

        >>> import tensorflow_datasets as tfds
        >>> import datasets.bach_bisque.bach_bisque_dataset_builder  # registers bach_bisque
        >>> builder = tfds.builder("bach_bisque/phantom")
        >>> builder.info.features["label"].names
        ['normal', 'benign', 'insitu', 'invasive', 'malignant']

    Once ``data prepare`` has run, ``tfds.load("bach_bisque/phantom", split="train")`` reads the images.
    """

    VERSION = tfds.core.Version(VERSION)
    SUPPORTED_VERSIONS: ClassVar = [tfds.core.Version(version) for version in ALIKE]
    RELEASE_NOTES: ClassVar = {
        "1.2.0": "The same images; the group of a BACH image is its patient, where the organisers published it.",
        "1.1.1": "The same images, encoded in a third of the time as PNG that is decoded in two thirds.",
        "1.1.0": "BACH's test images as split `test`; a digest of every image's pixels in the metadata.",
        "1.0.0": "First release.",
    }
    BUILDER_CONFIGS: ClassVar = [
        BachBisqueConfig(
            name="bach",
            description="400 images of the BACH challenge, 100 a class, 2048x1536 pixels of 0.42 micrometres; with its "
            "second archive also the 100 unlabelled test images. The group is the patient, where the organisers "
            "published it: 145 images of 29 patients.",
            instructions=_GET_BACH,
            cites=("aresta2019bach", "marza2025thunder"),
            licence="CC BY-NC-ND 4.0",
        ),
        BachBisqueConfig(
            name="bisque",
            description="58 images of UCSB BISQUE, 32 benign and 26 malignant, 896x768 pixels, ten groups by "
            "microarray and date.",
            instructions=_GET_BISQUE,
            cites=("gelasca2008evaluation",),
        ),
        BachBisqueConfig(
            name="bach_bisque",
            description="BACH and BISQUE together, the paper's Init + Ext.",
            instructions=f"{_GET_BACH}\n{_GET_BISQUE}",
            cites=("aresta2019bach", "marza2025thunder", "gelasca2008evaluation"),
            licence="BACH: CC BY-NC-ND 4.0",
        ),
        BachBisqueConfig(
            name="phantom",
            description="Synthetic tissue of the four classes, 384x288 pixels, drawn here: needs no download.",
            cites=("ruifrok2001quantification",),
            licence="Apache-2.0",
        ),
    ]

    source: Path | None = None  # the folder or zip to read instead of TFDS's manual folder
    older: Prepared | None = None  # a set of an earlier version to take the images from, instead of their files
    own: Iterable[tuple[str, dict, bytes]] | None = None  # keys, rows of the table and PNGs of a config of own images
    shows_progress: bool = False  # whether to draw a bar over the images

    def _create_builder_config(self, builder_config, version):
        if isinstance(builder_config, str) and is_own(builder_config):  # of any name, so in no list
            return _own_config(builder_config)
        return super()._create_builder_config(builder_config, version)

    @property
    def MANUAL_DOWNLOAD_INSTRUCTIONS(self) -> str | None:  # noqa: N802 - TFDS names it so
        config = self.builder_config
        return config.instructions and f"{_first(config.name)}, or put into this folder:\n{config.instructions}"

    def _info(self) -> tfds.core.DatasetInfo:
        config = self.builder_config
        about = self.get_metadata()
        return tfds.core.DatasetInfo(
            builder=self,
            description=about.description,
            citation=_citations(about.citation, (*config.cites, "kone2018hierarchical")),
            license=config.licence,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(encoding_format="png", doc="H&E tissue, 8-bit RGB."),
                    "label": tfds.features.ClassLabel(names=LABELS, doc=_LABELS_DOC),
                    "source": tfds.features.Text(doc="The collection: bach, bisque or phantom."),
                    "group": tfds.features.Text(doc="Patient or tissue microarray; empty where unknown."),
                    "filename": tfds.features.Text(doc="Name of the original file, unique in the data set."),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://iciar2018-challenge.grand-challenge.org/",
            # The table of each split's images, so that no one need read gigabytes of pixels to count them.
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        if self.older:
            return {split: self._updated_examples(split) for split in self.older.tables}
        if is_own(self.builder_config.name):
            return {"train": self._own_examples()}
        collections = self.builder_config.collections or get_collections(self.builder_config.name)
        needs_files = any(collection.name != PHANTOM.name for collection in collections)
        source = (self.source or self._manual_folder(dl_manager)) if needs_files else None
        splits = {"train": self._generate_examples("train", collections, source, sources.find_images)}
        tested = []
        for collection in collections:
            with sources.find_test_images(collection, source) as found:
                if found:
                    tested.append(collection)
        if tested:
            splits["test"] = self._generate_examples("test", tested, source, sources.find_test_images)
        return splits

    def _manual_folder(self, dl_manager: tfds.download.DownloadManager) -> Path:
        try:
            return Path(dl_manager.manual_dir)
        except AssertionError as error:  # TFDS's own, which does not know the command
            self._check_alike()
            name, by_hand = self.builder_config.name, " ".join(self.builder_config.instructions.split())
            raise NotPreparedError(
                f"{name} is not prepared in {self.data_dir_root}, and TFDS's manual folder does not exist or is empty: "
                f"{_first(name)}, with --data-dir where tfds.load has a data_dir, or put into that folder: {by_hand}"
            ) from error

    def _check_alike(self) -> None:
        """Name an earlier version that is there and holds the same pixels: TFDS itself reads the newest only."""
        there = Path(self.data_dir_root) / self.name / self.builder_config.name
        for version in ALIKE:
            if (there / version / "dataset_info.json").is_file():
                config = self.builder_config.name
                raise NotPreparedError(
                    f"{config} is prepared in version {version}, whose images are the same: load "
                    f"{self.name}/{config}:{version}, or make version {VERSION} of it with "
                    f"`python cli.py data prepare --config {config}`."
                )

    def _generate_examples(
        self, split: str, collections: Iterable[Collection], source: Path | None, find: Callable
    ) -> Iterator[tuple[str, dict]]:
        # Noted before the first image: with max_examples_per_split TFDS does not ask for the last.
        rows = self.info.metadata[split] = []
        count = sum(len(collection.unlabelled if split == "test" else collection.records) for collection in collections)
        images = (found for collection in collections for found in _images(collection, source, find))
        if self.shows_progress:
            images = bar(images, what=f"Preparing {split}", total=count)
        for record, digest, encoded in images:
            rows.append(dataclasses.asdict(record) | {"sha256": digest})
            yield record.key, _example(record, encoded)

    def _updated_examples(self, split: str) -> Iterator[tuple[str, dict]]:
        # The writer sorts by key, so the order of the records does not matter, while that of the table does.
        rows = self.info.metadata[split] = updating.updated_rows(self.older.tables[split])
        images = updating.updated_images(self.older, split)
        if self.shows_progress:
            images = bar(images, what=f"Updating {split}", total=len(rows))
        for record, _, encoded in images:
            yield record.key, _example(record, encoded)

    def _own_examples(self) -> Iterator[tuple[str, dict]]:
        if self.own is None:
            name = self.builder_config.name
            raise NotPreparedError(f"{name} is not prepared in {self.data_dir_root}: {_first(name)}.")
        rows = self.info.metadata["train"] = []
        for key, row, encoded in self.own:
            rows.append(row)
            yield key, _example(record_of(row), encoded)

    def _example_writer(self) -> tfds_writer.ExampleWriter:
        return _OrderedWriter(self.info.file_format)


class _OrderedWriter(tfds_writer.ExampleWriter):
    """Writes an example's fields in one order; left alone, each process chooses its own."""

    def write(self, path, examples):
        parsed = ((key, tf.train.Example.FromString(example)) for key, example in examples)
        return super().write(path, ((key, example.SerializeToString(deterministic=True)) for key, example in parsed))


def _example(record: Record, encoded: bytes) -> dict:
    label = -1 if record.label == UNLABELLED else record.label
    return dataclasses.asdict(record) | {"image": io.BytesIO(encoded), "label": label}


def _citations(bibliography: str, keys: tuple[str, ...]) -> str:
    entries = bibliography.strip().split("\n\n")
    return "\n\n".join(entry for key in keys for entry in entries if f"{{{key}," in entry)


def _images(collection: Collection, source: Path | None, find: Callable) -> Iterator[tuple[Record, str, bytes]]:
    """Yield each record with its image's digest and PNG, which threads make ahead, as many as there are processors."""
    threads = processors()
    if collection.name == PHANTOM.name:
        with drawn_by(min(threads, len(collection.records))) as draw:
            yield from ahead(
                lambda record: (record, *_encoded(Image.fromarray(draw(record.filename)))), collection.records, threads
            )
        return
    with find(collection, source) as files:
        yield from ahead(
            lambda record: (record, *_encoded(sources.read_image(collection, record, files[record]))),
            files,
            min(threads, _MOST_READERS),
        )


def _encoded(image: Image.Image) -> tuple[str, bytes]:
    return sources.pixel_digest(image), png.encode(np.asarray(image))
