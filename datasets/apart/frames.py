"""Messages between two processes: JSON and bytes, each with its length before it.

What is received is only parsed. Pickles would let a process that a file took over run code in the one that asked it.
"""

import json
import struct
from typing import BinaryIO

_LENGTHS = struct.Struct("<IQ")
_MAX_JSON = 2**20


class FrameError(Exception):
    """What was received is not a message, or larger than any answer to the question can be."""


def send(file: BinaryIO, said: dict, *data) -> None:
    """Write a message: a JSON object, and bytes in any number of parts."""
    text = json.dumps(said).encode()
    file.write(_LENGTHS.pack(len(text), sum(memoryview(part).nbytes for part in data)) + text)
    for part in data:
        file.write(part)
    file.flush()


def receive(file: BinaryIO, most: int) -> tuple[dict, bytes]:
    """Return what ``send`` wrote, with at most so many bytes; an EOFError is raised where nothing more comes."""
    text_length, length = _LENGTHS.unpack(_read(file, _LENGTHS.size))
    if text_length > _MAX_JSON or length > most:
        raise FrameError(f"a message of {text_length:,} and {length:,} bytes")
    try:
        said = json.loads(_read(file, text_length))
    except (ValueError, RecursionError) as error:
        raise FrameError(str(error)) from None
    if not isinstance(said, dict):
        raise FrameError("a message that is not a JSON object")
    return said, _read(file, length)


def _read(file: BinaryIO, length: int) -> bytes:
    data = file.read(length)
    if len(data) < length:
        raise EOFError
    return data
