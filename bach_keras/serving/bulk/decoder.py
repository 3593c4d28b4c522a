"""A process that decodes one image file after the other, and may be ended at any time.

A decoder in C can hang or crash, a disk can stop answering, and no thread can be stopped then. So files are opened here
and nowhere else: the process that asks waits no longer than an image may take, and then starts another one. That takes
a second, as TensorFlow is not imported.
"""

import contextlib
import ctypes
import math
import re
import signal
from pathlib import Path
from typing import BinaryIO

import numpy as np

from bach_keras.serving.bulk import files
from datasets.apart import frames
from datasets.digest import sha256_of
from datasets.errors import UserError, WorkError
from datasets.images import icc, scale
from datasets.images.admission import MAX_BYTES, NotTakenError, check_size
from datasets.images.read import read_rgb

_PR_SET_PDEATHSIG = 1

# Of what ``look`` finds: the type, and what else is true of it.
_SOUND = {
    "error": (str, bool),
    "digest": (str, re.compile("[0-9a-f]{64}").fullmatch),
    "bytes": (int, lambda value: 0 <= value < 2**63),
    "modified_ns": (int, lambda value: abs(value) < 2**63),
    "icc": (str, lambda value: len(value) <= _MAX_TEXT),
    "scale": (list, lambda value: [type(each) for each in value] == [float, str] and 0 < value[0] < math.inf),
}
_MAX_TEXT = 1000  # characters of a profile's name and its fault


def look(name: str, um_per_pixel: float | None = None, is_applied: bool = False, place: str | None = None) -> dict:
    """Read all that is needed of an image file.

    Args:
        name: a path, or the URL of an object.
        um_per_pixel: as the user gave it; the file is asked otherwise.
        is_applied: whether to convert the image to sRGB by its colour profile.
        place: the folder in which an object is kept meanwhile.

    Returns:
        ``digest`` (None of a file that is refused and larger than an image may be), ``bytes`` and ``modified_ns``
        where they are known, and either ``error`` or ``pixels``, uint8 [H, W, 3], ``scale``, a ``Scale`` or None, and
        ``icc``, the name of the colour profile or None.
    """
    try:
        with files.as_local(name, place) as (path, modified_ns):
            return _look(path, name, modified_ns, um_per_pixel, is_applied)
    except UserError as error:
        return {"error": str(error)}


def _look(path, name, modified_ns, um_per_pixel, is_applied) -> dict:
    before = _state(path)
    try:
        pixels = (icc.read_srgb if is_applied else read_rgb)(path)
        given = um_per_pixel and scale.Scale(um_per_pixel, "given by --um-per-pixel")
        profile = icc.embedded(path)
        shown = profile and (profile.name if is_applied else profile.said(pixels))
        answer = {"pixels": pixels, "scale": given or scale.um_per_pixel(path), "icc": shown}
    except UserError as error:
        answer = {"error": str(error).replace(str(path), name, 1)}
    if before is None:
        return answer
    is_huge = "error" in answer and before[0] > MAX_BYTES
    try:
        digest = None if is_huge else sha256_of(path)
    except OSError:
        digest = None
    if _state(path) != before:
        return {"error": f"{name} was changed while it was read."}
    return answer | {"digest": digest, "bytes": before[0], "modified_ns": modified_ns or before[1]}


def _state(path: Path) -> tuple[int, int] | None:
    """Return size and time of change of a file; None of what is not a file."""
    try:
        found = path.stat()
        return (found.st_size, found.st_mtime_ns) if path.is_file() else None
    except (OSError, ValueError):
        return None


def send(file: BinaryIO, found: dict) -> None:
    """Write what ``look`` found, for ``unpacked`` to read."""
    pixels, scale = found.get("pixels"), found.get("scale")
    shape = None if pixels is None else pixels.shape
    data = () if pixels is None else (np.ascontiguousarray(pixels).data.cast("B"),)
    frames.send(file, found | {"pixels": shape, "scale": scale and [scale.value, scale.source]}, *data)


def unpacked(found: dict, data: bytes) -> dict:
    """Return what ``look`` found, of a message that ``send`` wrote.

    A file may have taken the process over, so all is checked; a FrameError says that it is not such a message. What the
    process sends as ``failed`` is returned as it is.
    """
    if "failed" in found:
        return {"failed": str(found["failed"])}
    for name, (kind, is_sound) in _SOUND.items():
        value = found.get(name)
        if value is not None and not (isinstance(value, kind) and is_sound(value)):
            raise frames.FrameError(f"{name} is {type(value).__name__}")
    shape, given = found.get("pixels"), found.get("scale")
    if shape is None and isinstance(found.get("error"), str):
        return found | {"scale": None}
    try:
        height, width, samples = shape
        pixels = np.frombuffer(data, np.uint8).reshape(height, width, samples)
        check_size(width, height)
    except (TypeError, ValueError, NotTakenError) as error:
        raise frames.FrameError(str(error)) from None
    if samples != 3 or "error" in found:
        raise frames.FrameError("pixels that are not RGB, or of an error")
    return found | {"pixels": pixels, "scale": given and scale.Scale(*given)}


def _die_with_parent() -> None:
    """End when the process that asks is ended, also in the middle of a file that hangs."""
    with contextlib.suppress(OSError, AttributeError):  # elsewhere than on Linux
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    """Answer until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    _die_with_parent()
    questions, answers = frames.channels()
    frames.send(answers, {"ready": True})
    while True:
        try:
            question, _ = frames.receive(questions, 0)
        except EOFError:
            return
        try:
            send(answers, look(*question["asked"], place=question.get("place")))
        except WorkError as error:  # of the machine, and no fault of the file
            frames.send(answers, {"failed": str(error)})


if __name__ == "__main__":
    main()
