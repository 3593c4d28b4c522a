"""Pixels as an encoded image, which the export's signatures take."""

import io

import numpy as np
from PIL import Image


def as_png(pixels: np.ndarray) -> bytes:
    """Encode uint8 RGB [H, W, 3] as PNG."""
    buffer = io.BytesIO()
    # A fast compression: the file travels once and is thrown away.
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
