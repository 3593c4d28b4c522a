"""A process that decodes one image file after the other, and may be ended at any time.

A decoder in C can hang or crash, a disk can stop answering, and no thread can be stopped then. So files are opened here
and nowhere else: who asks waits as long as an image may take, and starts another such process. That takes a second, as
TensorFlow is not imported.
"""

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import BinaryIO

import numpy as np

from bach_keras.serving.bulk import files
from datasets.apart import frames
from datasets.digest import sha256_of
from datasets.errors import UserError
from datasets.images import icc, scale
from datasets.images.admission import MAX_BYTES, MAX_PIXELS
from datasets.images.read import read_rgb

_PR_SET_PDEATHSIG = 1


def look(name: str, um_per_pixel: float | None = None, is_applied: bool = False) -> dict:
    """Read all that is needed of an image file.

    Args:
        name: a path, or the URL of an object.
        um_per_pixel: as the user gave it; the file is asked otherwise.
        is_applied: whether to convert the image to sRGB by its colour profile.

    Returns:
        ``digest`` (None of a file that is refused and larger than an image may be), ``bytes`` and ``modified_ns``
        where they are known, and either ``error`` or ``pixels``, uint8 [H, W, 3], ``scale``, a ``Scale`` or None, and
        ``icc``, the name of the colour profile or None.
    """
    try:
        with files.as_local(name) as (path, modified_ns):
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
    """Write what ``look`` found."""
    pixels, scale = found.get("pixels"), found.get("scale")
    shape = None if pixels is None else pixels.shape
    data = () if pixels is None else (np.ascontiguousarray(pixels).data.cast("B"),)
    frames.send(file, found | {"pixels": shape, "scale": scale and [scale.value, scale.source]}, *data)


def receive(file: BinaryIO) -> dict:
    """Return what ``send`` wrote; see ``frames.receive``."""
    found, data = frames.receive(file, 3 * MAX_PIXELS)
    if found["pixels"] is None:
        return found
    given = found["scale"]
    pixels = np.frombuffer(data, np.uint8).reshape(found["pixels"])
    return found | {"pixels": pixels, "scale": given and scale.Scale(*given)}


def _die_with_parent() -> None:
    """End when the process that asks is ended, also in the middle of a file that hangs."""
    with contextlib.suppress(OSError, AttributeError):  # elsewhere than on Linux
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main(questions: int, answers: int) -> None:
    """Answer until nobody asks any more; the arguments are file descriptors."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    _die_with_parent()
    with os.fdopen(questions, "rb") as asked, os.fdopen(answers, "wb") as answered:
        frames.send(answered, {"ready": True})
        while True:
            try:
                question, _ = frames.receive(asked, 0)
            except EOFError:
                return
            send(answered, look(*question["asked"]))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
