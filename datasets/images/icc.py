"""The colour profile (ICC) in an image's file: what it is called, and the pixels as sRGB by it.

The conversion is LittleCMS's, relative colorimetric: white stays white, and colours that sRGB has are exact. The
perceptual one would move them by a table of the profile's maker. LittleCMS runs in a process apart, as a profile may be
anybody's.
"""

import functools
import itertools
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from datasets.apart import pool
from datasets.errors import UserError
from datasets.images import formats
from datasets.images.admission import NotTakenError
from datasets.images.metadata import jpeg_segments, open_image, png_chunks
from datasets.images.read import read_rgb
from datasets.images.tiff_directory import Directory

# A JPEG has room for so much; a scanner's tables take a few MB.
_MAX_BYTES = 255 * 65_519

# The name is from the file: any text, so it is bounded here and escaped where it is shown.
_MAX_NAME = 100

_HEADER = 128
_BROKEN = "damaged, incomplete or too large"
_DEVICES = (b"scnr", b"mntr", b"prtr", b"spac")  # classes with colours of their own: not links, lists or effects
_MODES = {b"RGB ": "RGB", b"GRAY": "L"}
_TIFF_TAG, _JPEG_SEGMENT, _JPEG_MARK = 34675, 0xE2, b"ICC_PROFILE\0"


@dataclass(frozen=True)
class Profile:
    """A colour profile as it was found."""

    name: str = ""  # what it calls itself; "" of one that cannot be opened
    fault: str = ""  # why it cannot be applied to any image that is read; "" where it can
    mode: str = ""  # of the images that it converts: Pillow's "RGB", or "L" for grey
    data: bytes = field(default=b"", repr=False)

    def fault_on(self, pixels: np.ndarray) -> str:
        """Return why it cannot be applied to an image, uint8 RGB [H, W, 3]; "" where it can."""
        if not self.fault and self.mode == "L" and not (pixels == pixels[..., :1]).all():
            return "of grey, which the image is not"
        return self.fault

    def said(self, pixels: np.ndarray) -> str:
        """Return its name, and why it cannot be applied to an image."""
        return ": ".join(filter(None, (self.name, self.fault_on(pixels))))


def read_srgb(path: Path) -> np.ndarray:
    """Read one image as ``read_rgb`` does, and convert it to sRGB by the profile in its file, where there is one.

    Transparent pixels are on white before: white is white by every profile. A profile that cannot be applied is a
    ``UserError``.
    """
    pixels, profile = read_rgb(path), embedded(path)
    if profile is None:
        return pixels
    if profile.fault_on(pixels):
        raise UserError(
            f"{path} has a colour profile that cannot be applied ({profile.said(pixels)}): leave out --icc apply."
        )
    try:
        return _as_srgb(pixels, profile)
    except NotTakenError as error:
        raise UserError(f"{path} {error}. It is the file's colour profile: leave out --icc apply.") from None
    except (pool.RefusedError, pool.AbsentError) as error:
        raise UserError(f"{path} cannot be converted by its colour profile ({error}): leave out --icc apply.") from None


def _as_srgb(pixels: np.ndarray, profile: Profile) -> np.ndarray:
    height, width, _ = pixels.shape
    stored = np.ascontiguousarray(pixels if profile.mode == "RGB" else pixels[..., 0])
    how = {"mode": profile.mode, "size": [width, height], "profile": len(profile.data)}
    _, converted = pool.SHARED.ask("to_srgb", profile.data, stored.data.cast("B"), exactly=pixels.nbytes, **how)
    return np.frombuffer(converted, np.uint8).reshape(pixels.shape)


def embedded(path: Path) -> Profile | None:
    """Find the profile in the file of an image that is read; None where there is none."""
    try:
        with open_image(path) as (file, kind):
            found = _PLACES[kind](file) if kind else []
    except OSError:  # it was there when it was read
        found = [b""]
    if not found:
        return None
    if len(found) > 1:
        return Profile(fault="one of several")
    try:
        return _profile(found[0])
    except NotTakenError as error:  # not kept for the next file: the machine may only have been busy
        return Profile(fault=str(error))
    except pool.AbsentError as error:
        return Profile(fault=f"not readable here: {error}")


# Each of these returns the bytes of the profiles that a file holds, b"" of one that is damaged.


def _of_tiff(file: BinaryIO) -> list[bytes]:
    try:
        return Directory(file).texts(_TIFF_TAG)
    except UserError:
        return [b""]


def _of_png(file: BinaryIO) -> list[bytes]:
    bodies = [body for _, body in itertools.islice(png_chunks(file, (b"iCCP",)), 2)]
    # Of several, none is applied, so none is inflated: there may be thousands, each of megabytes.
    return [_inflated(body.partition(b"\0")[2]) for body in bodies] if len(bodies) == 1 else [b""] * len(bodies)


def _inflated(stored: bytes) -> bytes:
    """Inflate what follows the name in a chunk: a byte that says how it is compressed, always 0, and the profile."""
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(stored[1:], _MAX_BYTES + 1)
    except zlib.error:
        return b""
    return data if stored[:1] == b"\0" and (stream.eof or len(data) > _MAX_BYTES) else b""


def _of_jpeg(file: BinaryIO) -> list[bytes]:
    """A profile lies in several segments, each with its number, from 1, and how many there are."""
    segments = (payload for _, payload in jpeg_segments(file, (_JPEG_SEGMENT,)) if payload.startswith(_JPEG_MARK))
    parts = sorted(payload[len(_JPEG_MARK) :] for payload in itertools.islice(segments, 256))
    if not parts:
        return []
    numbers = [part[:2] for part in parts]
    is_whole = len(parts) < 256 and numbers == [bytes((number + 1, len(parts))) for number in range(len(parts))]
    return [b"".join(part[2:] for part in parts) if is_whole else b""]


def _of_bmp(file: BinaryIO) -> list[bytes]:
    """Windows' fifth header has room for a profile, or for the name of its file, which is not opened."""
    file.seek(14)
    head = file.read(124)
    if len(head) < 124 or head[:4] != b"\x7c\0\0\0" or head[56:60] not in (b"DEBM", b"KNIL"):
        return []
    start, size = struct.unpack("<II", head[112:120])
    if head[56:60] == b"KNIL" or size > _MAX_BYTES:
        return [b""]
    file.seek(14 + start)
    return [file.read(size)]


_PLACES = {formats.TIFF: _of_tiff, formats.PNG: _of_png, formats.JPEG: _of_jpeg, formats.BMP: _of_bmp}


@functools.lru_cache(maxsize=4)  # the files of one scanner have one profile
def _profile(data: bytes) -> Profile:
    size = int.from_bytes(data[:4], "big")
    if not _HEADER < size <= len(data) <= _MAX_BYTES or data[36:40] != b"acsp":
        return Profile(fault=_BROKEN)
    mode = _MODES.get(data[16:20])
    try:
        said, _ = pool.SHARED.ask("profile", data, exactly=0, mode=mode)
    except pool.RefusedError:
        return Profile(fault=_BROKEN)
    name = " ".join(str(said.get("name")).split())[:_MAX_NAME] or "without a name"
    if data[12:16] not in _DEVICES:
        return Profile(name, fault="not of a device's colours")
    if mode is None:
        return Profile(name, fault=f"of {data[16:20].decode('latin-1').strip()}, which the image is not")
    return Profile(name, mode=mode, data=data) if said.get("converts") else Profile(name, fault=_BROKEN)
