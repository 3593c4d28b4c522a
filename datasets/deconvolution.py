"""Colour deconvolution of H&E images: optical density split into haematoxylin, eosin and a rest.

Ruifrok & Johnston, "Quantification of histochemical staining by color deconvolution", 2001.
"""

import numpy as np

from datasets.phantom import EOSIN, HAEMATOXYLIN


def separation() -> tuple[np.ndarray, np.ndarray]:
    """Return the matrix that mixes stains to optical density, and the one that separates them: float32 [3, 3] each.

    The rows of the first are haematoxylin, eosin and a rest at right angles to both, of unit length; the second is its
    inverse.
    """
    stains = np.array([HAEMATOXYLIN, EOSIN, np.cross(HAEMATOXYLIN, EOSIN)])
    stains /= np.linalg.norm(stains, axis=1, keepdims=True)
    return stains.astype(np.float32), np.linalg.inv(stains).astype(np.float32)


def restained(pixels: np.ndarray, haematoxylin: float = 1.0, eosin: float = 1.0) -> np.ndarray:
    """Return uint8 [H, W, 3] as if each stain were so many times as strong; what is neither stain is left alone."""
    mix, unmix = separation()
    density = np.float32(-np.log(np.maximum(np.arange(256), 1) / 255))[pixels]
    density = density @ ((unmix * np.float32([haematoxylin, eosin, 1])) @ mix)
    return np.uint8(np.rint(np.minimum(255 * np.exp(-density), 255)))
