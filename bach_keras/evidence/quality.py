"""What is measured of an image to tell whether a model can judge it: its blur, its share of tissue, its stains.

All of it is of the central square, which is what the networks see. An image of any size and any colours has measures.
"""

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from datasets.stain import GLASS, LIGHT, MACENKO_STAINS

# Blur is measured at so many micrometres a pixel, or at the training images' own where they are coarser ...
FINEST = 1.0
# ... on the whole square, or on four parts of so many pixels a side where it is larger: that is enough, and fast.
PART = 160

# The detail is what a Gaussian of the first deviation takes away, in pixels at that scale; the structure is what is
# left then and a Gaussian of the second takes away.
_DETAIL, _STRUCTURE = 1.0, 2.0
# Haematoxylin's deviation by rounding to 8 bits and by the camera: less than this does not count as structure.
_LEAST_STRUCTURE = 0.01
# So many rows and columns tell how much of an image is tissue, and its colours.
_SAMPLE = 128

_DENSITY = -np.log((np.arange(256) + 1) / LIGHT).astype(np.float32)
_TO_HAEMATOXYLIN = np.linalg.pinv(MACENKO_STAINS)[:, 0].astype(np.float32)
_OF_CHANNEL = _TO_HAEMATOXYLIN[:, None] * _DENSITY  # [3, 256]
# The least absorbing level of a channel of tissue.
_TISSUE = int(np.searchsorted(-_DENSITY, -GLASS))


def measures(pixels: np.ndarray, um_per_pixel: float | None = None, at: float | None = None) -> dict:
    """Measure an image, uint8 [H, W, 3]; threads may call it.

    Args:
        um_per_pixel: micrometres a pixel; None measures blur on the pixels as they are.
        at: the micrometres a pixel at which blur is measured; by default those of ``scale_of_blur``.

    Returns:
        ``blur``, from 0 to 1: the share of haematoxylin's structure inside tissue that is not fine detail; 1 where
        there is no structure at all. ``tissue``, the share of pixels that absorb light. ``stain``, six numbers: median
        and interquartile range of the tissue's optical density in red, green and blue.
    """
    square = _central_square(pixels)
    step = -(-len(square) // _SAMPLE)
    sample = square[step // 2 :: step, step // 2 :: step]
    tissue = _is_tissue(sample)
    parts = _parts(square, um_per_pixel / (at or scale_of_blur(um_per_pixel)) if um_per_pixel else 1.0)
    return {"blur": _blur(parts), "tissue": float(tissue.mean()), "stain": _stain(sample, tissue)}


def scale_of_blur(um_per_pixel: float | None) -> float:
    """Return the micrometres a pixel at which blur is compared with that of training images of a scale."""
    return max(FINEST, um_per_pixel or FINEST)


def _central_square(pixels) -> np.ndarray:
    side = min(pixels.shape[:2])
    top, left = ((given - side) // 2 for given in pixels.shape[:2])
    return pixels[top : top + side, left : left + side]


def _is_tissue(pixels) -> np.ndarray:
    return np.minimum(np.minimum(pixels[..., 0], pixels[..., 1]), pixels[..., 2]) < _TISSUE


def _parts(square, zoom) -> np.ndarray:
    """Return what blur is measured on, scaled by ``zoom``: uint8 [1 or 4, S, S, 3]."""
    across = 1 if len(square) * zoom <= 2 * PART else 2
    cell = len(square) // across
    side = max(1, min(cell, round(PART * 2 / across / zoom)))
    starts = [cell * place + (cell - side) // 2 for place in range(across)]
    scaled = min(2 * PART, max(1, round(side * zoom)))
    parts = [square[top : top + side, left : left + side] for top in starts for left in starts]
    return np.stack([part if scaled == side else _scaled(part, scaled) for part in parts])


def _scaled(part, side) -> np.ndarray:
    # Pillow reduces with antialiasing, and lets other threads work.
    return np.asarray(Image.fromarray(np.ascontiguousarray(part)).resize((side, side), Image.Resampling.BILINEAR))


def _blur(parts) -> float:
    density = sum(table[parts[..., channel]] for channel, table in enumerate(_OF_CHANNEL))
    smooth, coarse = (gaussian_filter(density, (0, deviation, deviation)) for deviation in (_DETAIL, _STRUCTURE))
    tissue = _is_tissue(parts)
    if not tissue.any():
        tissue[:] = True  # the structure is that of the glass
    detail, structure = (float((each[tissue] ** 2).mean()) ** 0.5 for each in (density - smooth, smooth - coarse))
    return structure / (structure + detail) if structure + detail >= _LEAST_STRUCTURE else 1.0


def _stain(sample, tissue) -> list[float]:
    coloured = sample[tissue] if tissue.any() else sample.reshape(-1, 3)
    low, middle, high = np.percentile(_DENSITY[coloured], (25, 50, 75), axis=0)
    return [*middle.tolist(), *(high - low).tolist()]
