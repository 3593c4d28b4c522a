"""An image of one format, as Pillow decodes it once its file was looked through.

Files are read in several threads, so Pillow's readers are called directly: ``Image.open`` warns of its own limit of
pixels, where ours was checked before, and filters of warnings are not a thread's own.
"""

import io

import numpy as np
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from datasets.images.admission import NotTakenError
from datasets.wording import in_short

_READERS = {"JPEG": JpegImageFile, "PNG": PngImageFile, "TIFF": TiffImageFile}


def read(data: bytes, kind: str, mode: str | None = None) -> np.ndarray:
    """Read a file of one picture of 8 bits a channel; Pillow's names say its format and what to convert it to."""
    with _READERS[kind](io.BytesIO(data)) as image:
        return np.asarray(image if mode in (None, image.mode) else image.convert(mode))


def decode(data: bytes, kind: str, mode: str | None = "RGB") -> np.ndarray:
    """Do what ``read`` does, and refuse damage, for which Pillow has errors of every kind, by a ``NotTakenError``."""
    try:
        return read(data, kind, mode)
    except SyntaxError:  # the file does not begin as one of its format
        raise NotTakenError("is damaged or cut short") from None
    except Exception as error:
        raise NotTakenError(f"is damaged or cut short ({in_short(error)})") from None
