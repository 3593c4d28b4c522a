"""JPEG files."""

import numpy as np

from datasets.images import pillow


def decode(data: bytes) -> np.ndarray:
    """Decode one JPEG to uint8 RGB [H, W, 3].

    Raises:
        NotTakenError: why it is not taken.
    """
    return pillow.decode(data, "JPEG")
