"""Small pictures of some images, for a report's gallery."""

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
        found[record["filename"].decode()] = _small(record["image"])
    return found


def _small(pixels: np.ndarray) -> bytes:
    picture = Image.fromarray(pixels)
    picture.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=QUALITY)
    return buffer.getvalue()
