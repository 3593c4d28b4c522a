"""Near-duplicates on two sides of a split: a shifted crop, another staining, a mirrored or turned copy.

What is compared is where light is lost in the red. Haematoxylin absorbs red and eosin hardly does (Ruifrok &
Johnston, "Quantification of histochemical staining by color deconvolution", 2001, table 1), so this shows
the nuclei whatever the stains. A perceptual hash (pHash: Zauner, "Implementation and benchmarking of
perceptual image hash functions", 2010) of many windows proposes pairs in each of eight orientations; their
correlation at every shift decides, at a low resolution first.
"""

import dataclasses
import itertools
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.escape import csv_line
from datasets.progress import bar
from datasets.splits import SPLITS
from datasets.whole import whole

LOG = logging.getLogger(__name__)

# What brings the second image of a pair onto the first: quarter turns against the clock, then
# for the last four left and right exchanged.
ORIENTATIONS = (
    "as it is", "turned 90", "turned 180", "turned 270",
    "mirrored", "turned 90 and mirrored", "turned 180 and mirrored", "turned 270 and mirrored",
)  # fmt: skip

# Their inverses by number: a mirroring, turned or not, undoes itself.
_INVERSES = [0, 3, 2, 1, 4, 5, 6, 7]

# The thresholds lie between what planted copies and unrelated images scored: docs/data.md.
MAX_DISTANCE = 12
MIN_CORRELATION = 0.4
# The least part of the smaller image that both must show.
MIN_OVERLAP = 0.2

# The shorter side of an image at the two resolutions.
_COARSE, _FINE = 72, 144
# Windows to hash, at the coarse one: their side; the step between those that answer, one of which must lie
# within about a pixel of the right place; and how many to a side ask.
_WINDOW, _STEP, _ASKED = 28, 2, 4
_FREQUENCIES = 8
# Radius, in pixels, of the mean that is subtracted, so that single nuclei count and shade does not; and of
# the contrast that is divided by, so that a few dark glands do not drown the rest.
_MEAN_RADIUS, _CONTRAST_RADIUS = 3.0, 8.0
# Variance of optical density that is as good as blank, and the mean square of local contrast that an
# overlap needs before its correlation counts in full.
_BLANK = 1e-3
_LEAST_CONTRAST = 0.05


@dataclass(frozen=True)
class Pair:
    """Two images, by their file names, that show the same tissue."""

    first: str
    first_split: str
    second: str
    second_split: str
    correlation: float  # of the detail in the part that both show, up to 1
    orientation: str  # one of ``ORIENTATIONS``
    right: int  # with ``down``, where the upper left corner of the second, so oriented, is on the first, in its pixels
    down: int
    overlap: float  # the part that both show, as a share of the smaller image


def orient(image: np.ndarray, orientation: str) -> np.ndarray:
    """Turn and mirror an image [H, W, ...] as one of ``ORIENTATIONS`` says."""
    number = ORIENTATIONS.index(orientation)
    turned = np.rot90(image, number % 4)
    return turned[:, ::-1] if number >= 4 else turned


@dataclass(frozen=True)
class Structure:
    """What of an image is compared."""

    scale: float  # how many pixels of the image are one of ``fine``
    fine: np.ndarray  # float32 [h, w], local contrast at the higher resolution
    coarse: np.ndarray  # float32 [h, w], local contrast at the lower resolution
    answering: np.ndarray  # uint64 [n], hashes of windows all over the image
    asking: np.ndarray  # uint64 [8, 16], hashes of some windows in each orientation

    @classmethod
    def of(cls, image: np.ndarray) -> "Structure":
        """Reduce an image, uint8 RGB [H, W, 3]."""
        coarse = _density(image, _COARSE)
        return cls(
            scale=min(image.shape[:2]) / _FINE,
            fine=_local_contrast(_density(image, _FINE)),
            coarse=_local_contrast(coarse),
            answering=_window_hashes(coarse, [np.arange(0, size - _WINDOW + 1, _STEP) for size in coarse.shape]),
            asking=np.stack([_asking(orient(coarse, orientation)) for orientation in ORIENTATIONS]),
        )


def _density(image: np.ndarray, side: int) -> np.ndarray:
    """Return the optical density of red [h, w], the shorter side as given."""
    height, width = image.shape[:2]
    scale = side / min(height, width)
    red = Image.fromarray(np.ascontiguousarray(image[..., 0]))
    red = red.resize((round(width * scale), round(height * scale)), Image.Resampling.BOX)
    return -np.log((np.asarray(red, np.float32) + 1) / 256)


def _local_contrast(density: np.ndarray) -> np.ndarray:
    detail = density - _local_mean(density, _MEAN_RADIUS)
    return detail / np.sqrt(_local_mean(detail**2, _CONTRAST_RADIUS) + _BLANK)


def _local_mean(values: np.ndarray, radius: float) -> np.ndarray:
    """Return the Gaussian mean around each pixel, of those that are there."""
    for axis in (0, 1):
        places = np.arange(values.shape[axis], dtype=np.float32)
        weights = np.exp(-0.5 * ((places[:, None] - places) / radius) ** 2)
        values = np.moveaxis(np.tensordot(weights / weights.sum(axis=1, keepdims=True), values, (1, axis)), 0, axis)
    return values


def _asking(density: np.ndarray) -> np.ndarray:
    """Hash windows spread evenly from border to border."""
    return _window_hashes(density, [np.linspace(0, n - _WINDOW, _ASKED).round().astype(int) for n in density.shape])


def _window_hashes(density: np.ndarray, starts: list[np.ndarray]) -> np.ndarray:
    """Say in 64 bits which of a window's lowest cosine coefficients are above their median.

    From a density [h, w] and the rows and the columns where windows begin: uint64 [rows * columns].
    """
    windows = np.lib.stride_tricks.sliding_window_view(density, (_WINDOW, _WINDOW))[np.ix_(*starts)]
    angles = np.pi * np.arange(_FREQUENCIES)[:, None] * (np.arange(_WINDOW) + 0.5) / _WINDOW
    cosines = np.cos(angles).astype(np.float32)
    waves = (cosines @ windows @ cosines.T).reshape(-1, _FREQUENCIES**2)
    waves[:, 0] = 0  # the mean: how strongly it is stained
    bits = waves > np.median(waves[:, 1:], axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(np.uint64).ravel()


def hash_distances(first: Structure, second: Structure) -> np.ndarray:
    """Return by orientation, uint8 [8], in how few bits windows of two images differ, asked both ways."""
    return np.minimum(_nearest(first.answering, second.asking), _nearest(second.answering, first.asking)[_INVERSES])


def _nearest(answering: np.ndarray, asking: np.ndarray) -> np.ndarray:
    bits = np.bitwise_count(answering[:, None] ^ asking.ravel())
    return bits.min(axis=0).reshape(asking.shape).min(axis=1)


@dataclass(frozen=True)
class Match:
    """How two images agree best: see ``Pair``; ``right`` and ``down`` are in pixels of what was compared."""

    correlation: float
    right: int
    down: int
    overlap: float


def correlate(first: np.ndarray, second: np.ndarray) -> Match:
    """Return the best correlation, over all shifts, of the part that two images share.

    Both are local contrast, float32 [h, w], of means about zero; the shapes may differ.
    """
    sides = list(zip(first.shape, second.shape, strict=True))
    size = [own + other for own, other in sides]
    products = np.fft.irfft2(np.fft.rfft2(first, size) * np.fft.rfft2(second, size).conj(), size)
    # A shift that leaves too little in common along one side is passed over.
    margins = [int(MIN_OVERLAP * min(pair)) for pair in sides]
    shifts = [np.arange(margin - other, own - margin + 1) for (own, other), margin in zip(sides, margins, strict=True)]
    starts = [np.maximum(shift, 0) for shift in shifts]
    stops = [np.minimum(shift + other, own) for (own, other), shift in zip(sides, shifts, strict=True)]
    shared = np.outer(*(stop - start for start, stop in zip(starts, stops, strict=True)))
    energy = _box_sums(first**2, starts, stops)
    other_energy = _box_sums(
        second**2,
        [start - shift for start, shift in zip(starts, shifts, strict=True)],
        [stop - shift for stop, shift in zip(stops, shifts, strict=True)],
    )
    least = _LEAST_CONTRAST * shared
    correlation = products[np.ix_(*shifts)] / np.sqrt(np.maximum(energy, least) * np.maximum(other_energy, least))
    overlap = shared / min(first.size, second.size)
    correlation[overlap < MIN_OVERLAP] = -1
    place = np.unravel_index(correlation.argmax(), correlation.shape)
    down, right = (int(shift[at]) for shift, at in zip(shifts, place, strict=True))
    return Match(float(correlation[place]), right, down, float(overlap[place]))


def _box_sums(values: np.ndarray, starts: list[np.ndarray], stops: list[np.ndarray]) -> np.ndarray:
    """Sum values [h, w] over every box of rows and columns from a start to its stop."""
    sums = np.pad(values, ((1, 0), (1, 0))).cumsum(axis=0, dtype=np.float64).cumsum(axis=1)
    (top, left), (bottom, right) = starts, stops
    down = sums[bottom] - sums[top]
    return down[:, right] - down[:, left]


def find_pairs(images: Iterable[tuple[str, np.ndarray]], split: dict[str, str]) -> list[Pair]:
    """Find the pairs of images that show the same tissue on two sides of a split, the most alike first.

    ``images`` are file names and pixels, uint8 RGB [H, W, 3]; each is reduced as it comes.
    """
    structures = {name: Structure.of(image) for name, image in bar(images, what="Reading", total=len(split))}
    parts = {part: [name for name in structures if split[name] == part] for part in SPLITS}
    pairs = []
    for one, other in itertools.combinations((part for part in SPLITS if parts[part]), 2):
        for name in bar(parts[one], what=f"Comparing {one} with {other}"):
            for other_name in parts[other]:
                found = compare(structures[name], structures[other_name])
                if found is not None:
                    pairs.append(Pair(name, one, other_name, other, **found))
        counts = f"{len(parts[one])} images of {one} with {len(parts[other])} of {other}"
        LOG.info(f"compared {counts}: {len(pairs)} pairs so far")
    return sorted(pairs, key=lambda pair: -pair.correlation)


def compare(first: Structure, second: Structure) -> dict[str, float | int | str] | None:
    """Return the fields of a ``Pair`` but for the names, or None if the two do not show the same tissue."""
    best = None
    for number in np.flatnonzero(hash_distances(first, second) <= MAX_DISTANCE):
        orientation = ORIENTATIONS[number]
        if correlate(first.coarse, orient(second.coarse, orientation)).correlation < MIN_CORRELATION:
            continue
        match = correlate(first.fine, orient(second.fine, orientation))
        if match.correlation >= (best["correlation"] if best else MIN_CORRELATION):
            best = {
                "correlation": match.correlation,
                "orientation": orientation,
                "right": round(match.right * first.scale),
                "down": round(match.down * first.scale),
                "overlap": match.overlap,
            }
    return best


def write_pairs(path: Path, pairs: list[Pair]) -> None:
    """Write a row for each pair under a line of titles."""
    lines = [csv_line(field.name for field in dataclasses.fields(Pair))]
    for pair in pairs:
        rounded = {"correlation": f"{pair.correlation:.3f}", "overlap": f"{pair.overlap:.3f}"}
        lines.append(csv_line((dataclasses.asdict(pair) | rounded).values()))
    with whole(path) as partial:
        partial.write_bytes("".join(f"{line}\n" for line in lines).encode(errors="surrogateescape"))
