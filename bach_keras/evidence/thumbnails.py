"""Small pictures of images, for a report's gallery and for what an export knows of its training images."""

import io

import numpy as np
from PIL import Image

# Of the longer side, in pixels: about 10 kB as a JPEG file.
SIDE, QUALITY = 240, 80


def thumbnails(data, names: list[str]) -> dict[str, bytes]:
    """Return file name -> a small JPEG file, for the named images of a ``SplitData``."""
    if not names:
        return {}
    found = {}
    for record in data.images(names).as_numpy_iterator():
        found[record["filename"].decode()] = small(record["image"])
    return found


def small(pixels: np.ndarray, side: int = SIDE) -> bytes:
    """Return a JPEG file of an image, uint8 [H, W, 3], whose longer side has at most so many pixels."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((side, side))
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=QUALITY)
    return buffer.getvalue()
