"""Which training images an image resembles: the nearest by Euclidean distance in the features of carci's first member.

What counts as far is read from the training images themselves: of each, the distance to the nearest training image of
another patient. Images of one patient are more alike than a new patient's image can be to any, so they do not count.
"""

import functools
import hashlib
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets.errors import UserError
from datasets.whole import whole

# The file's name, in an export's assets.extra/, which TF Serving does not look at.
FILE = "training_images.npz"

# An image by itself has no neighbour.
LEAST = 2


@dataclass(frozen=True)
class Known:
    """A training image, without its pixels."""

    name: str
    label: str
    group: str  # the patient or microarray that it is from, "" where that is unknown
    thumbnail: bytes = b""  # a JPEG file; empty where its licence does not let it be passed on


@dataclass(frozen=True)
class Neighbour:
    """A training image near another image."""

    known: Known
    distance: float
    percentile: float  # of the training images, how many have their own nearest at most this far away, in percent


@dataclass(frozen=True)
class Index:
    """Training images with their features, float32 [n, width], and how far each is from the others, float32 [n]."""

    images: tuple[Known, ...]
    features: np.ndarray
    own: np.ndarray  # the distance to the nearest image of another patient; see ``leave_one_out``

    @classmethod
    def of(cls, images: Sequence[Known], features: np.ndarray) -> "Index":
        """Measure the distances between some images."""
        if len(images) < LEAST:
            raise UserError(f"{len(images)} of the training images can be read here, and at least {LEAST} are needed.")
        if not np.isfinite(features).all():
            raise UserError("The features of a training image are NaN or infinite.")
        return cls(tuple(images), features, leave_one_out(features, [image.group for image in images]))

    @functools.cached_property
    def _sorted(self) -> np.ndarray:
        return np.sort(self.own)

    @functools.cached_property
    def _doubles(self) -> np.ndarray:
        return self.features.astype(np.float64)

    def percentile(self, distance: float) -> float:
        """Return of how many of the training images, in percent, the own distance is at most this one."""
        return 100 * float(np.searchsorted(self._sorted, distance, side="right")) / len(self.own)

    def nearest(self, features: np.ndarray, count: int) -> list[list[Neighbour]]:
        """Return for each image, float32 [N, width], its ``count`` nearest, the nearest first."""
        apart = distances(features.astype(np.float64), self._doubles)
        return [
            [
                Neighbour(self.images[place], float(row[place]), self.percentile(row[place]))
                for place in np.argsort(row, kind="stable")[:count]
            ]
            for row in apart
        ]

    @property
    def thumbnails(self) -> int:
        """How many of the images have one."""
        return sum(bool(image.thumbnail) for image in self.images)

    def write(self, path: Path) -> str:
        """Write the index as a NumPy archive, and return the SHA-256 of the file, by which ``read`` knows it again."""
        pictures = [image.thumbnail for image in self.images]
        buffer = io.BytesIO()
        np.savez(
            buffer,
            **{name: np.array([getattr(image, name) for image in self.images], str) for name in _TEXTS},
            features=self.features,
            own=self.own,
            pictures=np.frombuffer(b"".join(pictures), np.uint8),
            ends=np.cumsum([len(picture) for picture in pictures]),
        )
        with whole(path) as partial:
            partial.write_bytes(buffer.getbuffer())
        return hashlib.sha256(buffer.getbuffer()).hexdigest()

    @classmethod
    def read(cls, path: Path, digest: str) -> "Index":
        """Read what ``write`` wrote; refuses any other file than the one of this SHA-256."""
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}): export the runs again.") from error
        if hashlib.sha256(content).hexdigest() != digest:
            raise UserError(f"{path} is not the index that was written with this export: export the runs again.")
        # Whoever changed the file can have changed the digest in the card as well.
        try:
            return cls._of(content)
        except Exception as error:  # NumPy and zipfile raise nearly anything for a damaged archive
            raise UserError(f"{path} is not an index that an export writes: export the runs again.") from error

    @classmethod
    def _of(cls, content: bytes) -> "Index":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            # What is compressed can be far larger than the file.
            if any(each.compress_type != zipfile.ZIP_STORED for each in archive.infolist()):
                raise UserError("Its arrays are compressed.")
        with np.load(io.BytesIO(content), allow_pickle=False) as held:
            texts = [held[name].tolist() for name in _TEXTS]
            joined, ends = held["pictures"].tobytes(), held["ends"].tolist()
            features, own = held["features"], held["own"]
        pictures = [joined[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        images = tuple(Known(*each) for each in zip(*texts, pictures, strict=True))
        if features.dtype.kind + own.dtype.kind != "ff" or features.ndim != 2 or own.shape != (len(images),):
            raise UserError("Its numbers are not those of its images.")
        if len(features) != len(images) or not np.isfinite(features).all() or np.isnan(own).any():
            raise UserError("Its numbers are not those of its images.")
        return cls(images, features, own)


_TEXTS = ("name", "label", "group")


def distances(features: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the Euclidean distances of float [N, width] and [n, width], [N, n] of the same type."""
    from sklearn.metrics import euclidean_distances  # it computes in float64, so that those of equal features are 0

    return euclidean_distances(features, others)


def leave_one_out(features: np.ndarray, groups: Sequence[str]) -> np.ndarray:
    """Return how far each image is from the nearest other one that is not of its own group, float32 [n].

    Args:
        features: float32 [n, width].
        groups: the patient of each image. Of one whose patient is unknown ("") every other image counts, and so it does
            of one where all others are of the same patient.
    """
    apart, of_group = distances(features, features), np.asarray(groups)
    np.fill_diagonal(apart, np.inf)
    alike = (of_group[:, None] == of_group) & (of_group != "")
    of_others = np.where(alike, np.inf, apart).min(axis=1)
    return np.where(np.isfinite(of_others), of_others, apart.min(axis=1)).astype(np.float32)
