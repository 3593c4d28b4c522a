"""What each collection of images holds, known before any of it is on the disk.

The names are public knowledge, so splits can be made and a user's copy can be checked against them.
"""

from dataclasses import dataclass

from datasets import phantom
from datasets.errors import UserError
from datasets.labels import CLASSES, MALIGNANT

# Version of the records that the TFDS builder makes from the collections, and earlier ones whose records hold the same
# pixels and fields, so that they are read too. Records of any other version are not read.
VERSION = "1.1.1"
ALIKE = ("1.1.0",)

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


# BACH's folder of a class and the prefix of its files (Aresta et al. 2019).
BACH_FOLDERS = {
    "normal": ("Normal", "n"),
    "benign": ("Benign", "b"),
    "insitu": ("InSitu", "is"),
    "invasive": ("Invasive", "iv"),
}

# No public list says which patient a BACH image is from, so their groups are "".
BACH = Collection(
    "bach",
    (2048, 1536),
    tuple(
        Record(f"{prefix}{number:03d}.tif", label, "", "bach")
        for label, (_, prefix) in BACH_FOLDERS.items()
        for number in range(1, 101)
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
)

CONFIGS = {"bach": (BACH,), "bisque": (BISQUE,), "bach_bisque": (BACH, BISQUE), "phantom": (PHANTOM,)}


def get_collections(config: str) -> tuple[Collection, ...]:
    """Return the collections that a config of the data set joins; refuse an unknown config."""
    if config not in CONFIGS:
        raise UserError(f"There is no config {config!r}: choose one of {', '.join(CONFIGS)}.")
    return CONFIGS[config]
