"""PNG files."""

import numpy as np

from datasets.images import pillow
from datasets.images.admission import NotTakenError


def decode(data: bytes) -> np.ndarray:
    """Decode one PNG to uint8 RGB [H, W, 3].

    Raises:
        NotTakenError: why it is not taken.
    """
    # Pillow opens 16-bit colour as 8-bit RGB without a word. The depth stands at a fixed place.
    if data[24:25] > b"\x08":
        raise NotTakenError("has more than 8 bits a channel: convert it to 8-bit RGB")
    return pillow.decode(data, "PNG")
