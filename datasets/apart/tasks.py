"""What is done in the process apart: the calls into libraries in C that see bytes of a file which nobody trusts.

Each takes the bytes and the values of a question, and returns the values and the bytes of its answer. NumPy is not
imported, so that the process starts fast.
"""

import functools
import io
import re

from PIL import Image, ImageCms
from PIL.TiffImagePlugin import TiffImageFile


def tiff(data: bytes) -> tuple[dict, bytes]:
    """Decode a TIFF of one grey picture by libtiff; the answer is its rows."""
    with TiffImageFile(io.BytesIO(data)) as image:
        return {}, image.tobytes()


def profile(data: bytes, mode: str | None) -> tuple[dict, bytes]:
    """Open a colour profile by LittleCMS; say its name, and whether images of this mode can be converted by it."""
    opened = ImageCms.ImageCmsProfile(io.BytesIO(data))
    name = opened.profile.profile_description or ""
    if mode is None:
        return {"name": name, "converts": False}, b""
    try:
        _transform(data, mode)
    except MemoryError:  # of the machine, and not of the profile
        raise
    except Exception:  # Pillow has errors of several kinds for damage
        return {"name": name, "converts": False}, b""
    return {"name": name, "converts": True}, b""


def to_srgb(data: bytes, mode: str, size: list[int], profile: int) -> tuple[dict, bytes]:
    """Convert pixels to sRGB: the first ``profile`` bytes are the colour profile, the others are the pixels."""
    image = Image.frombytes(mode, tuple(size), memoryview(data)[profile:])
    return {}, _transform(data[:profile], mode).apply(image).tobytes()


@functools.lru_cache(maxsize=4)  # the files of one scanner have one profile
def _transform(data: bytes, mode: str) -> ImageCms.ImageCmsTransform:
    opened, srgb = ImageCms.ImageCmsProfile(io.BytesIO(data)), ImageCms.createProfile("sRGB")
    return ImageCms.buildTransform(opened, srgb, mode, "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC)


# Of a slide's properties those by which it is read and told apart. Others hold texts of the scanner, of any length.
_ASKED = re.compile(
    r"openslide\.(bounds-|mpp-|level\[\d+\]\.tile-)|mirax\..*\.DIGITIZER_(WIDTH|HEIGHT)$|dicom\.SeriesInstanceUID$"
)


class _Slides:
    """The slide that openslide has open: one, since each slide has processes of its own."""

    path, slide = None, None

    @classmethod
    def open(cls, path: str):
        if path != cls.path:
            import openslide

            cls.close()
            cls.slide, cls.path = openslide.OpenSlide(path), path
        return cls.slide

    @classmethod
    def close(cls) -> None:
        if cls.slide is not None:
            cls.slide.close()
        cls.slide = cls.path = None


def slide(data: bytes) -> tuple[dict, bytes]:
    """Open a slide by openslide, its path in bytes; say its size, its levels and what else is asked of it."""
    import openslide

    path = data.decode("utf-8", "surrogateescape")
    if openslide.OpenSlide.detect_format(path) is None:
        return {"is_known": False}, b""
    opened = _Slides.open(path)
    properties = {name: value for name, value in opened.properties.items() if _ASKED.match(name)}
    size, downsamples = opened.dimensions, opened.level_downsamples
    return {"is_known": True, "properties": properties, "size": size, "downsamples": downsamples}, b""


def window(data: bytes, place: list[int], level: int, size: list[int]) -> tuple[dict, bytes]:
    """Read a window of a slide by openslide; the answer is its pixels, RGBA."""
    path = data.decode("utf-8", "surrogateescape")
    try:
        region = _Slides.open(path).read_region(tuple(place), level, tuple(size))
    except Exception:
        # An error makes a handle useless, also for windows that are whole: each tries again with a new one.
        _Slides.close()
        try:
            region = _Slides.open(path).read_region(tuple(place), level, tuple(size))
        except Exception:
            _Slides.close()
            raise
    return {}, region.tobytes()


TASKS = {task.__name__: task for task in (tiff, profile, to_srgb, slide, window)}
