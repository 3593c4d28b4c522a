"""Messages between two processes: JSON and bytes, each with its length before it.

What is received is only parsed. Pickles would let a process that a file took over run code in the one that asked it.
"""

import json
import os
import struct
import sys
from typing import BinaryIO

_LENGTHS = struct.Struct("<IQ")
_MAX_JSON = 2**20


class FrameError(Exception):
    """What was received is not a message, or larger than any answer to the question can be."""


def channels() -> tuple[BinaryIO, BinaryIO]:
    """Return where a process reads what it is asked, and where it answers: its standard input and output.

    From then on what a library prints is lost, and so is no answer.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return sys.stdin.buffer, answers


def send(file: BinaryIO, header: dict, *data) -> None:
    """Write a message: a JSON object, and bytes in any number of parts."""
    text = json.dumps(header).encode()
    file.write(_LENGTHS.pack(len(text), sum(memoryview(part).nbytes for part in data)) + text)
    for part in data:
        file.write(part)
    file.flush()


def receive(file: BinaryIO, max_bytes: int) -> tuple[dict, bytes]:
    """Return what ``send`` wrote, with at most so many bytes; an EOFError is raised where nothing more comes."""
    text_length, length = _LENGTHS.unpack(_read(file, _LENGTHS.size))
    if text_length > _MAX_JSON or length > max_bytes:
        raise FrameError(f"a message of {text_length:,} and {length:,} bytes")
    try:
        header = json.loads(_read(file, text_length))
    except (ValueError, RecursionError) as error:
        raise FrameError(str(error)) from None
    if not isinstance(header, dict):
        raise FrameError("a message that is not a JSON object")
    return header, _read(file, length)


def _read(file: BinaryIO, length: int) -> bytes:
    data = file.read(length)
    if len(data) < length:
        raise EOFError
    return data
