"""The pixels of an image file, as RGB."""

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from datasets.images.admission import MAX_PIXELS, NotTakenError, check_size

# Pillow opens many others, animations too, and some by programs of other people.
_FORMATS = ("BMP", "JPEG", "PNG", "TIFF")

# How TIFF, PNG, JPEG and BMP files begin.
_BEGINNINGS = (b"II*\0", b"MM\0*", b"\x89PNG", b"\xff\xd8\xff", b"BM")


def read_rgb(path: Path) -> np.ndarray:
    """Read one image as uint8 RGB [H, W, 3]; grey, palette and alpha images are converted.

    Raises:
        ValueError: what is wrong with the file, in one sentence.
    """
    try:
        if path.is_dir():
            next(path.iterdir(), None)
            raise ValueError(f"{path} is a folder.")
        if not path.is_file():
            raise ValueError(f"{path} is not there.")
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from None
    if not data:
        raise ValueError(f"{path} is empty.")
    try:
        return decode_rgb(data)
    except NotTakenError as error:
        raise ValueError(f"{path} {error}.") from None


def decode_rgb(data: bytes) -> np.ndarray:
    """Decode the content of an image file as uint8 RGB [H, W, 3]; grey, palette and alpha images are converted.

    Raises:
        NotTakenError: why it is refused.
    """
    try:
        # Pillow warns of its own limit, where ours is checked before any pixel is decoded, and of damage.
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            refusal = _refusal(image)
            if not refusal:
                return np.asarray(image.convert("RGB"))
    except UnidentifiedImageError:
        fault = "is damaged or cut short" if data.startswith(_BEGINNINGS) else "is no image of PNG, JPEG, BMP or TIFF"
        raise NotTakenError(fault) from None
    except Image.DecompressionBombError:
        raise NotTakenError(f"has too many pixels; at most {MAX_PIXELS:,} are taken") from None
    except Exception as error:  # Pillow has errors of every kind for damage
        raise NotTakenError(f"is damaged or cut short ({error})") from None
    raise NotTakenError(refusal)


def _refusal(image) -> str:
    """Say why an image is not taken, before its pixels are decoded; "" if it is."""
    try:
        check_size(*image.size)
    except NotTakenError as error:
        return str(error)
    if image.mode.startswith(("I", "F")) or _bits(image) > 8:
        return "has more than 8 bits a channel: convert it to 8-bit RGB"
    if getattr(image, "n_frames", 1) > 1:
        return f"has {image.n_frames} pages: save the one that is meant as its own file"
    return ""


def _bits(image) -> int:
    """Bits a channel: Pillow opens 16-bit colour as 8-bit RGB without a word."""
    if image.format == "TIFF":
        return max(image.tag_v2.get(258, (1,)))
    if image.format == "PNG":
        # Bit depth stands at a fixed place, behind the signature, the chunk's head and two sizes.
        image.fp.seek(24)
        return image.fp.read(1)[0]
    return 8
