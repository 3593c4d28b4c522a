"""An image of one format, as Pillow decodes it once its file was looked through."""

import io
import warnings

import numpy as np
from PIL import Image, UnidentifiedImageError

from datasets.images.admission import NotTakenError


def decode(data: bytes, kind: str, mode: str | None = "RGB") -> np.ndarray:
    """Decode a file of one picture of 8 bits a channel; Pillow's names say its format and what to convert it to."""
    try:
        # Pillow warns of its own limit, where ours was checked before, and of damage.
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data), formats=[kind]) as image:
            return np.asarray(image if mode in (None, image.mode) else image.convert(mode))
    except UnidentifiedImageError:
        raise NotTakenError("is damaged or cut short") from None
    except Exception as error:  # Pillow has errors of every kind for damage
        raise NotTakenError(f"is damaged or cut short ({error})") from None
