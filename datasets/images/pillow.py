"""An image file of one format, as Pillow decodes it."""

import io
import warnings

import numpy as np
from PIL import Image, UnidentifiedImageError

from datasets.images.admission import NotTakenError, check_size


def decode(data: bytes, kind: str) -> np.ndarray:
    """Decode an image of 8 bits a channel to uint8 RGB [H, W, 3].

    Args:
        data: the whole file.
        kind: Pillow's name of the format.

    Raises:
        NotTakenError: why it is not.
    """
    try:
        # Pillow warns of its own limit, where ours is checked before any pixel is decoded, and of damage.
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data), formats=[kind]) as image:
            check_size(*image.size)
            if getattr(image, "n_frames", 1) > 1:
                raise NotTakenError(f"has {image.n_frames} pages: save the one that is meant as its own file")
            return np.asarray(image.convert("RGB"))
    except NotTakenError:
        raise
    except UnidentifiedImageError:
        raise NotTakenError("is damaged or cut short") from None
    except Exception as error:  # Pillow has errors of every kind for damage
        raise NotTakenError(f"is damaged or cut short ({error})") from None
