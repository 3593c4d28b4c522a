"""What each collection of images holds, known before any of it is on the disk.

The names are public knowledge, so splits can be made and a user's copy can be checked against them.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from datasets import phantom
from datasets.errors import UserError
from datasets.labels import CLASSES, MALIGNANT

# Version of the records that the TFDS builder makes from the collections, and earlier ones, the newest first, whose
# records hold the same pixels, so that they are read too. Records of any other version are not read.
VERSION = "1.2.0"
ALIKE = ("1.1.1", "1.1.0")
# Those of them whose images are encoded as VERSION encodes them.
ENCODED_ALIKE = ("1.1.1",)

# The label of a hidden test image. It is not in LABELS: nothing trains on it or is scored on it.
UNLABELLED = "unlabelled"


@dataclass(frozen=True)
class Record:
    """One image."""

    filename: str  # unique in its collection
    label: str  # one of ``datasets.labels.LABELS``, or ``UNLABELLED``
    group: str  # the patient or tissue microarray it comes from, "" where that is unknown
    source: str  # the name of its collection

    @property
    def key(self) -> str:
        """``class/filename``: the same on every machine and at every folder depth."""
        return f"{self.label}/{self.filename}"


@dataclass(frozen=True)
class Archive:
    """A file that somebody published."""

    name: str
    url: str
    md5: str
    sizes: range  # what it may have in bytes, as exactly as its page says
    licence: str  # what whoever fetches it agrees to
    citation: str


@dataclass(frozen=True)
class Collection:
    """A set of images of one origin."""

    name: str
    size: tuple[int, int]  # width and height of every image in pixels
    records: tuple[Record, ...]  # every labelled image, in a fixed order
    test_groups: frozenset[str] = frozenset()  # groups that no protocol trains or validates on
    archive: Archive | None = None  # the file that its images may be fetched in
    unlabelled: tuple[Record, ...] = ()  # a challenge's test images, whose labels are not public
    um_per_pixel: float | None = None  # micrometres a pixel, None where they are unknown
    # File name -> the name that draws go by, where it is another; and -> the SHA-256 of its pixels, where images may be
    # the same. Both are known of sets of own images.
    drawn_names: Mapping[str, str] = field(default_factory=dict, compare=False)
    digests: Mapping[str, str] = field(default_factory=dict, compare=False)


# BACH's folder of a class and the prefix of its files (Aresta et al. 2019).
BACH_FOLDERS = {
    "normal": ("Normal", "n"),
    "benign": ("Benign", "b"),
    "insitu": ("InSitu", "is"),
    "invasive": ("Invasive", "iv"),
}


def _bach_patients() -> dict[str, str]:
    """File name -> patient, of the images whose patient the challenge's organisers published."""
    with Path(__file__).with_name("bach_patients.csv").open(newline="", encoding="utf-8") as file:
        return {row["filename"]: row["patient"] for row in csv.DictReader(file)}


# bach_patients.md says where the list is from, and what it does not know.
BACH_PATIENTS = _bach_patients()

BACH = Collection(
    "bach",
    (2048, 1536),
    tuple(
        Record(name, label, BACH_PATIENTS.get(name, ""), "bach")
        for label, (_, prefix) in BACH_FOLDERS.items()
        for number in range(1, 101)
        for name in [f"{prefix}{number:03d}.tif"]
    ),
    archive=Archive(
        name="ICIAR2018_BACH_Challenge.zip",
        url="https://zenodo.org/records/3632035/files/ICIAR2018_BACH_Challenge.zip",
        md5="8ae1801334aa943c44627c1eef3631b2",
        sizes=range(10_350_000_000, 10_450_000_000),  # the page rounds it to 10.4 GB
        licence="CC BY-NC-ND 4.0 (https://creativecommons.org/licenses/by-nc-nd/4.0): give credit, no commercial use, "
        "and pass nothing on that is made from it, the prepared records included.",
        citation='G. Aresta et al., "BACH: Grand challenge on breast cancer histology images", Medical Image Analysis '
        "56, 122-139, 2019; data: https://doi.org/10.5281/zenodo.3632035.",
    ),
    unlabelled=tuple(Record(f"test{number}.tif", UNLABELLED, "", "bach") for number in range(100)),
    um_per_pixel=0.42,
)

# BISQUE's tissue microarrays: how many benign and malignant images each gave (Gelasca et al. 2008).
BISQUE_ARRAYS = {
    "ytma10_010704": (3, 3), "ytma12_010804": (3, 3), "ytma23_022103": (3, 3), "ytma49_042003": (3, 3),
    "ytma49_042203": (3, 3), "ytma49_042403": (3, 3), "ytma49_072303": (2, 2), "ytma49_111003": (3, 3),
    "ytma49_111303": (3, 3), "ytma55_030603": (6, 0),
}  # fmt: skip

BISQUE = Collection(
    "bisque",
    (896, 768),
    tuple(
        Record(f"{array}_{label}{number}_ccd.tif", label, array, "bisque")
        for array, counts in BISQUE_ARRAYS.items()
        for label, count in zip(("benign", MALIGNANT), counts, strict=True)
        for number in range(1, count + 1)
    ),
)

PHANTOM = Collection(
    "phantom",
    (phantom.WIDTH, phantom.HEIGHT),
    tuple(
        Record(phantom.filename(label, patient, index), label, f"p{patient:03d}", "phantom")
        for patient in range(phantom.PATIENTS)
        for label in [CLASSES[patient % len(CLASSES)]]
        for index in range(phantom.IMAGES_PER_PATIENT)
    ),
    # The last ten patients of each class are for the test: 200 images, the same for every protocol.
    frozenset(f"p{patient:03d}" for patient in range(phantom.PATIENTS - 10 * len(CLASSES), phantom.PATIENTS)),
    # Their tissue is drawn as large as that of BACH's images at the phantoms' width.
    um_per_pixel=round(BACH.um_per_pixel * BACH.size[0] / phantom.WIDTH, 6),
)

# Collections whose licence lets anybody pass on what is made from an image, such as a thumbnail: BACH's (CC BY-NC-ND)
# forbids it, and BISQUE states none.
MAY_BE_PASSED_ON = frozenset({"phantom"})

# What the groups of a collection are; those of own images are patients.
GROUPS = {"bach": "patients", "bisque": "microarrays", "phantom": "patients"}

# The micrometres a pixel of a collection's images, None where they are unknown.
SCALES = {collection.name: collection.um_per_pixel for collection in (BACH, BISQUE, PHANTOM)}

CONFIGS = {"bach": (BACH,), "bisque": (BISQUE,), "bach_bisque": (BACH, BISQUE), "phantom": (PHANTOM,)}


def with_known_group(record: Record) -> Record:
    """Return a record with the patient that is known today: BACH's were not when earlier versions prepared it."""
    if record.source == BACH.name and not record.group:
        return replace(record, group=BACH_PATIENTS.get(record.filename, ""))
    return record


def get_collections(config: str) -> tuple[Collection, ...]:
    """Return the collections that a config of the data set joins; refuse an unknown config."""
    if config not in CONFIGS:
        raise UserError(f"There is no config {config!r}: choose one of {', '.join(CONFIGS)}.")
    return CONFIGS[config]
