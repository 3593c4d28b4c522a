"""The TFDS builder: BACH, BISQUE, both together, or synthetic phantoms."""

import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import tensorflow_datasets as tfds
from PIL import Image

from datasets import phantom
from datasets.bach_bisque import sources
from datasets.catalogue import CONFIGS, PHANTOM, Collection, Record
from datasets.labels import LABELS

_LABELS_DOC = (
    "normal: normal tissue; benign: benign lesion, no carcinoma; insitu: carcinoma in situ, inside the "
    "ducts; invasive: carcinoma that has left them; malignant: carcinoma of BISQUE, which does not say which."
)

_DESCRIPTIONS = {
    "bach": "400 images of the BACH challenge, 100 a class, 2048x1536 pixels of 0.42 micrometres.",
    "bisque": "58 images of UCSB BISQUE, 32 benign and 26 malignant, 896x768 pixels, ten microarrays.",
    "bach_bisque": "BACH and BISQUE together, the paper's Init + Ext.",
    "phantom": "Synthetic tissue of the four classes, 384x288 pixels, drawn here: needs no download.",
}


@dataclasses.dataclass(eq=False)
class BachBisqueConfig(tfds.core.BuilderConfig):
    """A config and the collections whose images it joins."""

    collections: tuple[Collection, ...] = ()


class Builder(tfds.core.GeneratorBasedBuilder):
    """Builds one split, ``train``, of all labelled images; ``datasets.splits`` says who trains.

    Attributes:
        source: the folder or zip to read instead of TFDS's manual folder.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar = [
        BachBisqueConfig(name=name, description=_DESCRIPTIONS[name], collections=collections)
        for name, collections in CONFIGS.items()
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
    phantom needs nothing. For the others, put into the manual folder, as zips or unpacked:
    bach: ICIAR2018_BACH_Challenge.zip of https://zenodo.org/records/3632035 (its licence, CC BY-NC-ND 4.0,
    forbids passing it on);
    bisque: the 58 files ytma*_ccd.tif of the "Breast Cancer Cell" set of
    https://bioimage.ucsb.edu/research/bio-segmentation;
    bach_bisque: both.
    """

    source: Path | None = None

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
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
            # The table of images, so that no one need read gigabytes of pixels to count them.
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        needs_files = any(collection.name != PHANTOM.name for collection in self.builder_config.collections)
        source = (self.source or Path(dl_manager.manual_dir)) if needs_files else None
        return {"train": self._generate_examples(source)}

    def _generate_examples(self, source: Path | None) -> Iterator[tuple[str, dict]]:
        written = []
        for collection in self.builder_config.collections:
            for record, image in _images(collection, source):
                written.append(dataclasses.asdict(record))
                # Pillow's fast PNG takes a third of the time of TensorFlow's own.
                png = io.BytesIO()
                image.save(png, "PNG", compress_level=1)
                png.seek(0)
                yield record.key, {"image": png, **dataclasses.asdict(record)}
        self.info.metadata["records"] = written


def _images(collection: Collection, source: Path | None) -> Iterator[tuple[Record, Image.Image]]:
    if collection.name == PHANTOM.name:
        for record in collection.records:
            yield record, Image.fromarray(phantom.draw_named(record.filename))
        return
    with sources.find_images(collection, source) as files:
        for record, read in files.items():
            yield record, sources.read_image(collection, record, read)
