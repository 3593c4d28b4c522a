"""Small changes of an image that should not change what is seen in it: a turn, compression, stain, focus, scale.

Each is a function of the pixels as they are read, uint8 RGB [H, W, 3], and returns such an image of the same size, or
turned by a quarter. None of them draws anything at random.
"""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from datasets.deconvolution import restained
from datasets.images.read import decode_rgb


@dataclass(frozen=True)
class Perturbation:
    """One kind of change, in several grades."""

    title: str
    grades: tuple[float, ...]
    unchanged: float | None  # the grade at which an image stays as it is; None where there is none
    change: Callable[[np.ndarray, float, int], np.ndarray]  # of pixels, a grade and the side of the network's square
    names: tuple[str, ...] = ()  # of the grades, where these are no amounts

    def named(self, grade: float) -> str:
        """Return what a table calls a grade."""
        return self.names[self.grades.index(grade)] if self.names else f"{grade:g}"


def symmetry(pixels: np.ndarray, number: int) -> np.ndarray:
    """Return one of the eight symmetries: ``4 * m + q`` is mirrored left to right if m, then turned left q times."""
    return np.ascontiguousarray(np.rot90(pixels[:, ::-1] if number >= 4 else pixels, number % 4))


def jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    """Return an image after JPEG compression, as Pillow writes it: colours at half the resolution."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return decode_rgb(buffer.getvalue())


def blurred(pixels: np.ndarray, sigma: float) -> np.ndarray:
    """Return an image under a Gaussian of ``sigma`` pixels, which Pillow approximates by boxes."""
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(sigma)))


def magnified(pixels: np.ndarray, scale: float) -> np.ndarray:
    """Return what the same camera would see at ``scale`` times the magnification, around the same middle.

    What lies outside the image at a lower one is filled by reflection at its border, as in training's augmentation.
    """
    height, width = pixels.shape[:2]
    margins = [math.ceil(max(0.0, (1 / scale - 1) / 2 * side)) for side in (height, width)]
    wide = np.pad(pixels, [(margin, margin) for margin in margins] + [(0, 0)], "symmetric")
    middle, half = (wide.shape[1] / 2, wide.shape[0] / 2), (width / scale / 2, height / scale / 2)
    box = (middle[0] - half[0], middle[1] - half[1], middle[0] + half[0], middle[1] + half[1])
    return np.asarray(Image.fromarray(wide).resize((width, height), Image.Resampling.BICUBIC, box=box))


def _blurred_as_seen(pixels, sigma, side):
    # The network's square has ``side`` pixels where the image has those of its shorter side.
    return blurred(pixels, sigma * min(pixels.shape[:2]) / side)


_TURNS = tuple(f"turned left by {angle}°" for angle in (90, 180, 270))
_STRENGTHS = (0.7, 0.85, 1.15, 1.3)
PERTURBATIONS = {
    "symmetry": Perturbation(
        "turned and mirrored", tuple(range(1, 8)), None,
        lambda pixels, grade, _: symmetry(pixels, int(grade)),
        (*_TURNS, "mirrored", *(f"mirrored, {turn}" for turn in _TURNS)),
    ),
    "jpeg": Perturbation(
        "JPEG quality", (95, 90, 80, 70, 60), None,
        lambda pixels, grade, _: jpeg(pixels, int(grade)),
    ),
    "haematoxylin": Perturbation(
        "haematoxylin, times", _STRENGTHS, 1.0,
        lambda pixels, grade, _: restained(pixels, haematoxylin=grade),
    ),
    "eosin": Perturbation(
        "eosin, times", _STRENGTHS, 1.0,
        lambda pixels, grade, _: restained(pixels, eosin=grade),
    ),
    "blur": Perturbation("blur, σ in pixels", (0.5, 1.0, 1.5, 2.0), 0.0, _blurred_as_seen),
    "scale": Perturbation(
        "magnification, times", (0.8, 0.9, 1.1, 1.25), 1.0,
        lambda pixels, grade, _: magnified(pixels, grade),
    ),
}  # fmt: skip


def versions(pixels: np.ndarray, side: int):
    """Yield the image as it is, and then each change of it, in the order of ``PERTURBATIONS`` and their grades."""
    yield pixels
    for each in PERTURBATIONS.values():
        for grade in each.grades:
            yield each.change(pixels, grade, side)
