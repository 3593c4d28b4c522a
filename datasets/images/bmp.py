"""BMP files."""

import numpy as np

from datasets.images import pillow


def decode(data: bytes) -> np.ndarray:
    """Decode one BMP to uint8 RGB [H, W, 3].

    Raises:
        NotTakenError: why it is not taken.
    """
    return pillow.decode(data, "BMP")
