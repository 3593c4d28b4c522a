"""Pixels as an encoded image, which is what the export's signatures take."""

import io

import numpy as np
from PIL import Image


def as_png(pixels: np.ndarray) -> bytes:
    """Encode uint8 RGB [H, W, 3] as PNG, without loss and without much effort."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
