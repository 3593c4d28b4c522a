"""The files of an export, looked at before TensorFlow opens them: it waits for pipes, and reads devices for ever."""

from pathlib import Path

from google.protobuf.message import DecodeError
from tensorflow.core.protobuf.fingerprint_pb2 import FingerprintDef

from bach_keras.fields import FieldError

# TensorFlow writes some fifty bytes.
_MAX_FINGERPRINT = 2**16


def check_files(folder: Path) -> None:
    """Refuse an export with something that is not a file, or with a fingerprint that TensorFlow could not read."""
    for path in (*folder.glob("*"), *folder.glob("*/*")):
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise FieldError(f"{path.relative_to(folder)} is a pipe, a device or a socket")
    fingerprint = folder / "fingerprint.pb"
    if not fingerprint.exists():  # TensorFlow does without one
        return
    try:
        if fingerprint.stat().st_size > _MAX_FINGERPRINT:
            raise DecodeError
        FingerprintDef.FromString(fingerprint.read_bytes())
    except (DecodeError, OSError):
        # TensorFlow would print a traceback, and load the export all the same.
        raise FieldError(f"{fingerprint.name} is damaged") from None


def check_class_names(folder: Path, classes: tuple[str, ...]) -> None:
    """Refuse an export whose ``class_names.txt``, by which clients of a server name its answers, is not its card's."""
    path = folder / "assets" / "class_names.txt"
    if path.exists() and path.read_text("utf-8", errors="replace").split() != list(classes):
        raise FieldError(f"{path.name} does not name {', '.join(classes)}, as its card does")
