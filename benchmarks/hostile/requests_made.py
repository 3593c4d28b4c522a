"""Harmful requests: HTTP, JSON and gRPC messages that lie, nest, claim gigabytes or end in the middle."""

import json
import random
import struct
from collections.abc import Iterator

from benchmarks.hostile import mutations
from benchmarks.hostile.texts import TEXTS
from tests.serving.remote import test_http1, test_server

_PLACE = "/v1/models/bach:predict"


def http(count: int, draw: random.Random) -> Iterator[tuple[str, bytes]]:
    """Yield requests as the bytes that are sent; what is sent after them is nothing."""
    for number, case in enumerate(
        _cases(test_http1.test_a_bad_request_gets_one_reason_in_json_and_the_connection_ends)
    ):
        yield f"bad request {number}.http", case[0]
    for number, case in enumerate(_cases(test_server.test_a_bad_request_says_what_is_wrong)):
        yield f"bad body {number}.http", posted(case[0] if isinstance(case[0], bytes) else json.dumps(case[0]).encode())
    for number, case in enumerate(_cases(test_server.test_a_wrong_place)):
        yield f"wrong place {number}.http", posted(b'{"instances": ["YQ=="]}', case[0])
    for number, text in enumerate(TEXTS):
        for part, body in enumerate((
            {"signature_name": text, "instances": [{"b64": "YQ=="}]}, {"instances": [{"b64": text}]},
            {"inputs": {text: []}}, {text: text},
        )):  # fmt: skip
            yield f"text {number} {part}.http", posted(json.dumps(body).encode())
        line = text.encode("utf-8", "replace").replace(b" ", b"%20")[:9000]
        yield f"text {number} target.http", b"GET /" + line + b" HTTP/1.1\r\nHost: x\r\n\r\n"
        yield f"text {number} header.http", b"GET /v1/models/bach HTTP/1.1\r\nHost: x\r\nX: " + line + b"\r\n\r\n"
    good = posted(b'{"instances": [{"b64": "YQ=="}, {"b64": "Yg=="}]}')
    for how, data in mutations.damaged(good, count, draw):
        yield f"{how}.http", data
    for name, body in {
        "nested.http": b'{"instances": ' + b"[" * 10**6 + b"]" * 10**6 + b"}",
        "numbers.http": b'{"instances": [' + b"1," * 3 * 10**6 + b"1]}",
        "objects.http": b'{"instances": [' + b"{}," * 10**6 + b"{}]}",
        "digits.http": b'{"instances": [' + b"9" * 5 * 10**6 + b"]}",
        "names.http": b'{"instances": {' + b",".join(b'"%d":0' % n for n in range(300_000)) + b"}}",
    }.items():
        yield name, posted(body)
    yield "gigabytes to come.http", posted(b"", length=2**40)
    yield "chunks without end.http", _head(b"Transfer-Encoding: chunked") + b"1\r\na\r\n" * 10**6


def _cases(test) -> list[tuple]:
    (mark,) = [mark for mark in test.pytestmark if mark.name == "parametrize"]
    return list(mark.args[1])


def posted(body: bytes, place: str = _PLACE, length: int | None = None) -> bytes:
    length = len(body) if length is None else length
    return _head(b"Content-Length: %d" % length, place) + body


def _head(line: bytes, place: str = _PLACE) -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n" % (place.encode(), line)


def messages(count: int, draw: random.Random) -> Iterator[tuple[str, bytes]]:
    """Yield the bytes of calls of gRPC's ``Predict``."""
    good = message([b"one", b"two"])
    for how, data in mutations.damaged(good, count, draw):
        yield f"{how}.pb", data
    for number, text in enumerate(TEXTS):
        yield f"text {number} model.pb", message([b"a"], model=text)
        yield f"text {number} signature.pb", message([b"a"], signature=text)
        yield f"text {number} input.pb", message([b"a"], name=text)
        yield f"text {number} filter.pb", message([b"a"]) + _field(3, text.encode("utf-8", "replace"))
    for dtype in range(0, 140):
        yield f"type {dtype}.pb", message([b"a"], dtype=dtype)
    for number, shape in enumerate(([2**62], [-1], [2**31, 2**31], [0], [1] * 300, [33], [1, 1], [10**9], [2], [])):
        for dtype in (1, 4, 7, 10, 20, 21):
            yield f"shape {number} of type {dtype}.pb", message([b"a"], shape=shape, dtype=dtype)
    yield "100,000 inputs.pb", b"".join(_field(2, _field(1, b"%d" % n) + _field(2, b"")) for n in range(100_000))
    yield "100,000 sides.pb", message([b"a"], shape=[1] * 100_000)
    yield "a million empty images.pb", message([b""] * 10**6, shape=[10**6])
    yield "nested variants.pb", _nested(3000)
    yield "a length of exabytes.pb", b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\x7f"
    yield "groups.pb", b"\x0b" * 10_000


def message(images, model="bach", signature="serving_default", name="image_bytes", shape=None, dtype=7) -> bytes:
    """Return a PredictRequest, written field by field, so that it may lie."""
    sides = b"".join(_field(2, _number(1, side)) for side in ([len(images)] if shape is None else shape))
    tensor = _number(1, dtype) + _field(2, sides) + b"".join(_field(8, image) for image in images)
    spec = _field(1, model.encode("utf-8", "replace")) + _field(3, signature.encode("utf-8", "replace"))
    return _field(1, spec) + _field(2, _field(1, name.encode("utf-8", "replace")) + _field(2, tensor))


def _nested(depth: int) -> bytes:
    tensor = b""
    for _ in range(depth):
        tensor = _number(1, 21) + _field(15, _field(3, tensor))
    return _field(2, _field(1, b"image_bytes") + _field(2, tensor))


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value & 0xFFFFFFFFFFFFFFFF)


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(parts) + struct.pack("B", value)
