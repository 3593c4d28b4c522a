"""Whether two images show the same tissue: one is laid on the other by keypoints, and what both show is compared."""

from dataclasses import dataclass

import numpy as np

from datasets.duplicates.sketch import BLANK, Sketch

# Keypoints of two images are matched if they are each other's most alike, and at most so many of 128 bits differ.
_MOST_BITS = 40
# Matched keypoints agree if they lie so near where they should, in shorter sides; at first roughly, then closely ...
_ROUGHLY, _CLOSELY = 0.05, (0.025, 0.0125, 0.0125)
# ... and if the scale (as a logarithm) and the angle (in radians) that they give by themselves are so near.
_LOG_SCALE, _ANGLE = 0.5, 0.4
LEAST_MATCHES = 5
# So many matches are tried as the placement of the whole.
_TRIED = 80
# The one shorter side is at most so many times the other.
_MOST_SCALE = 2.5

# The thresholds lie between what planted copies and unrelated images scored: docs/data.md. They are the least part of
# the smaller image that both must show, and the least correlation; in small parts, more is due to chance.
MIN_OVERLAP, MIN_CORRELATION, MIN_CORRELATION_OF_ROOT = 0.2, 0.4, 0.25

# In pixels of the small picture: radius of the mean that is subtracted, so that single nuclei count and shade does not;
# and of the contrast that is divided by, so that a few dark glands do not drown the rest.
_MEAN_RADIUS, _CONTRAST_RADIUS = 3.0, 8.0
# The mean square of local contrast that an overlap needs before its correlation counts in full.
_LEAST_CONTRAST = 0.05


@dataclass(frozen=True)
class Alignment:
    """How the second of two images best lies on the first: ``factor`` turns and scales it, then ``shift`` moves it.

    Both are complex numbers, in shorter sides of the two images.
    """

    factor: complex
    shift: complex
    matches: int  # how many keypoints agree on it
    correlation: float  # of local contrast in what both show, up to 1
    overlap: float  # what both show, as a share of the smaller image

    @property
    def is_copy(self) -> bool:
        """Whether the two show the same tissue."""
        least = max(MIN_CORRELATION, MIN_CORRELATION_OF_ROOT / max(self.overlap, MIN_OVERLAP) ** 0.5)
        return self.overlap >= MIN_OVERLAP and self.correlation >= least


def align(first: Sketch, second: Sketch) -> Alignment | None:
    """Return how the second lies on the first, or None where too few keypoints agree."""
    one, other = _matched(first, second)
    if len(one) < LEAST_MATCHES:
        return None
    goal, start = first.places[one].astype(complex), second.places[other].astype(complex)
    agreeing = _agreeing(goal, start, first.arrows[one].astype(complex) / second.arrows[other])
    if agreeing is None:
        return None
    factor, shift = _least_squares(goal[agreeing], start[agreeing])
    if not 1 / _MOST_SCALE < abs(factor) < _MOST_SCALE:
        return None
    return Alignment(factor, shift, int(agreeing.sum()), *_compare(first, second, factor, shift))


def _matched(first: Sketch, second: Sketch) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of the keypoints that are each other's most alike."""
    if not len(first.codes) or not len(second.codes):
        return np.zeros(0, int), np.zeros(0, int)
    bits = sum(np.bitwise_count(first.codes[:, None, half] ^ second.codes[:, half]) for half in (0, 1))
    nearest, own = bits.argmin(axis=1), np.arange(len(first.codes))
    mutual = (bits.argmin(axis=0)[nearest] == own) & (bits[own, nearest] <= _MOST_BITS)
    return own[mutual], nearest[mutual]


def _agreeing(goal: np.ndarray, start: np.ndarray, factors: np.ndarray) -> np.ndarray | None:
    """Return which matches agree on how the start lies on the goal, bool [n], or None if too few do."""
    # Each match by itself says how; the one that most others bear out is then improved by those. Of many
    # it is enough to try some, those of most contrast.
    logs = np.log(factors)
    apart = logs[:_TRIED, None] - logs
    alike = (np.abs(apart.real) < _LOG_SCALE) & (np.abs((apart.imag + np.pi) % (2 * np.pi) - np.pi) < _ANGLE)
    shifts = goal - factors * start
    near = alike & (np.abs(factors[:_TRIED, None] * start + shifts[:_TRIED, None] - goal) < _ROUGHLY)
    best = near.sum(axis=1).argmax()
    agreeing = near[best]
    for tolerance in _CLOSELY:
        if agreeing.sum() < LEAST_MATCHES:
            return None
        factor, shift = _least_squares(goal[agreeing], start[agreeing])
        agreeing = alike[best] & (np.abs(factor * start + shift - goal) < tolerance)
    return agreeing if agreeing.sum() >= LEAST_MATCHES else None


def _least_squares(goal: np.ndarray, start: np.ndarray) -> tuple[complex, complex]:
    """Return the factor and the shift that bring the start closest to the goal."""
    away = start - start.mean()
    factor = (away.conj() @ (goal - goal.mean())) / max((np.abs(away) ** 2).sum(), 1e-12)
    return complex(factor), complex(goal.mean() - factor * start.mean())


def _compare(first: Sketch, second: Sketch, factor: complex, shift: complex) -> tuple[float, float]:
    """Return the correlation of what both show, and how much of the smaller image that is."""
    import cv2

    units = [min(sketch.picture.shape) for sketch in (first, second)]
    if abs(factor) * units[0] > units[1]:  # the finer is laid on the coarser
        first, second, units = second, first, units[::-1]
        factor, shift = 1 / factor, -shift / factor
    pixels = factor * units[0] / units[1]
    # Centres of pixels are half a pixel from their borders.
    moved = shift * units[0] + (pixels - 1) * (0.5 + 0.5j)
    matrix = np.array([[pixels.real, -pixels.imag, moved.real], [pixels.imag, pixels.real, moved.imag]])
    size = first.picture.shape[::-1]
    shared = cv2.warpAffine(np.full(second.picture.shape, 255, np.uint8), matrix, size) > 127
    overlap = shared.sum() / min(first.picture.size, abs(pixels) ** 2 * second.picture.size)
    laid = cv2.warpAffine(second.density, matrix, size, borderMode=cv2.BORDER_REPLICATE)
    one, other = (_local_contrast(density, shared.astype(np.float32)) for density in (first.density, laid))
    # By the one with more contrast: else a label on empty glass would agree with the same label on tissue.
    energy = max(float((one**2).sum()), float((other**2).sum()), _LEAST_CONTRAST * shared.sum(), 1e-6)
    return float((one * other).sum()) / energy, float(overlap)


def _local_contrast(density: np.ndarray, shared: np.ndarray) -> np.ndarray:
    """Return local contrast [h, w] where both images are, by what lies there alone, and zero elsewhere."""
    import cv2

    def mean(values, radius):
        total, weight = (cv2.GaussianBlur(one, (0, 0), radius) for one in (values * shared, shared))
        return total / np.maximum(weight, 1e-3)

    detail = (density - mean(density, _MEAN_RADIUS)) * shared
    return detail / np.sqrt(mean(detail**2, _CONTRAST_RADIUS) + BLANK)
