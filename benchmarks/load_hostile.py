"""What the clients of ``benchmarks.load`` send that is broken, hostile or slow, and what each must be answered with."""

import contextlib
import json
import socket
import struct

import grpc

from benchmarks.load_clients import (
    BUSY,
    LEFT,
    PATIENCE,
    REFUSED,
    RIGHT,
    UNEXPECTED,
    Client,
    Outcome,
    b64,
    exchanged,
    predict_request,
    refusal,
    rest_images,
    rows_of,
    rpc_images,
    status_of,
)

_CALL = "/tensorflow.serving.PredictionService/Predict"
_SERVING = b"\x08\x01"

# ---- REST ------------------------------------------------------------------------------------------------------------


def _posted(client: Client, body: bytes, place: str = "", length: int | None = None, more: bytes = b"") -> bytes:
    place = place or f"{client.target.path}:predict"
    head = f"POST {place} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body) if length is None else length}\r\n"
    return head.encode() + more + b"\r\n" + body


def _instances(*values, **more) -> bytes:
    return json.dumps({"instances": list(values), **more}).encode()


def _sending(make, *expected):
    """Return an act that sends the bytes that ``make`` makes, and wants one of some statuses."""
    return lambda client: refusal(exchanged(client, make(client)), expected)


def _noise(client: Client) -> bytes:
    return b"\x00" + client.random.randbytes(client.random.randint(1, 3000)) + b"\r\n\r\n"


REST_BROKEN = {
    "bad JSON": _sending(lambda c: _posted(c, b'{"instances": ['), 400),
    "deep JSON": _sending(lambda c: _posted(c, b"[" * 100_000), 400),
    "bad base64": _sending(lambda c: _posted(c, _instances({"b64": "not!base64"})), 400),
    "numbers instead of images": _sending(lambda c: _posted(c, _instances(1, 2, 3)), 400),
    "1000 images": _sending(lambda c: _posted(c, _instances(*[b64(b"x")] * 1000)), 400),
    "unknown signature": _sending(lambda c: _posted(c, _instances(b64(b"x"), signature_name="train")), 400),
    "unknown model": _sending(lambda c: _posted(c, _instances(b64(b"x")), "/v1/models/other:predict"), 404),
    "unknown version": _sending(
        lambda c: _posted(c, _instances(b64(b"x")), f"{c.target.path}/versions/77:predict"), 404
    ),
    "unknown place": _sending(lambda c: _posted(c, b"{}", "/elsewhere"), 404),
    "a length of a terabyte": _sending(lambda c: _posted(c, b"{}", length=10**12), 413),
    "a length that is too long": _sending(lambda c: _posted(c, b"{}", length=100), 400),
    "a length that is too short": _sending(lambda c: _posted(c, _instances(b64(b"x")), length=9), 400),
    "two lengths": _sending(lambda c: _posted(c, b"{}", more=b"Content-Length: 7\r\n"), 400),
    "no length": _sending(lambda c: f"POST {c.target.path}:predict HTTP/1.1\r\nHost: x\r\n\r\n".encode(), 411),
    "a head of 1 MB": _sending(lambda c: _posted(c, b"{}", more=b"X: " + b"y" * 2**20 + b"\r\n"), 431),
    "a method": _sending(lambda c: f"DELETE {c.target.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode(), 405),
    "noise": _sending(_noise, 400, 414),
    "24 MB that are not an image": _sending(lambda c: _posted(c, _instances("a" * 24 * 2**20)), 200),
}

# ---- gRPC ------------------------------------------------------------------------------------------------------------


def _calling(make, expected: str, method: str = _CALL):
    """Return an act that sends the message that ``make`` makes, and wants a status."""

    def act(client: Client) -> Outcome:
        message = make(client)
        try:
            client.channel.unary_unary(method)(message, timeout=PATIENCE)
        except grpc.RpcError as error:
            if error.code().name == expected:
                return Outcome(REFUSED)
            if error.code().name == "UNAVAILABLE":
                raise
            return Outcome(UNEXPECTED, f"{error.code().name} instead of {expected}: {error.details()}")
        return Outcome(UNEXPECTED, f"an answer instead of {expected}")

    return act


def _message(client: Client, signature: str = "", name: str | None = None, count: int | None = None) -> bytes:
    request = predict_request(client, signature, [client.target.album.images[0].file])
    if name:
        request.model_spec.name = name
    if count is not None:
        request.inputs["image_bytes"].tensor_shape.dim[0].size = count
    return request.SerializeToString()


def _cut(client: Client) -> bytes:
    message = _message(client)
    return message[: client.random.randrange(10, len(message) - 1)]


def _frames(make):
    """Return an act that sends bytes to gRPC's port which are not a complete call, and wants the connection closed."""

    def act(client: Client) -> Outcome:
        with client.connected(to_rpc=True) as connection:
            try:
                connection.sendall(make(client))
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(2**16):
                    pass
            except TimeoutError:
                return Outcome(UNEXPECTED, "the connection stays open")
            except OSError:  # it may be cut off at any byte
                pass
        return Outcome(REFUSED)

    return act


_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)


def _half_a_frame(client: Client) -> bytes:
    kind = client.random.choice((0, 1, 9))  # data, headers, continuation
    return _PREFACE + struct.pack(">I", 5000)[1:] + bytes([kind, 4]) + struct.pack(">I", 1) + b"a" * 40


RPC_BROKEN = {
    "a message that is cut": _calling(_cut, "INVALID_ARGUMENT"),
    "no message at all": _calling(lambda c: b"", "INVALID_ARGUMENT"),
    "noise": _calling(lambda c: b"\xff" + c.random.randbytes(200), "INVALID_ARGUMENT"),
    "unknown signature": _calling(lambda c: _message(c, "train"), "INVALID_ARGUMENT"),
    "unknown model": _calling(lambda c: _message(c, name="other"), "NOT_FOUND"),
    "a shape of a billion images": _calling(lambda c: _message(c, count=10**9), "INVALID_ARGUMENT"),
    "unknown call": _calling(_message, "UNIMPLEMENTED", "/tensorflow.serving.PredictionService/Train"),
    "half a frame": _frames(_half_a_frame),
    "frames of noise": _frames(lambda c: _PREFACE + c.random.randbytes(500)),
    "no HTTP/2": _frames(lambda c: b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
}

# ---- slow ------------------------------------------------------------------------------------------------------------


def _byte_by_byte(client: Client) -> Outcome:
    request = f"GET {client.target.path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    with client.connected() as connection:
        for byte in request:
            connection.sendall(bytes([byte]))
            if client.stopped.wait(client.target.slow / len(request)):
                return Outcome(LEFT)
        return refusal(status_of(connection), (200, 408))


def _body_that_stops(client: Client) -> Outcome:
    with client.connected() as connection:
        connection.sendall(_posted(client, b'{"instances": [', length=10_000))
        client.stopped.wait(client.target.slow)
    return Outcome(LEFT)


def _not_reading(client: Client) -> Outcome:
    asked = f"GET {client.target.path}/metadata HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    with client.connected() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(client.target.slow)
        with contextlib.suppress(OSError):
            connection.sendall(asked * 2000)
        client.stopped.wait(client.target.slow)
    return Outcome(LEFT)


def _slow_message(client: Client) -> Outcome:
    """Send a call's message late: it is right to answer it, and right to end the call where others wait."""
    numbers = [client.random.randrange(len(client.target.album.images))]

    def late():
        client.stopped.wait(client.target.slow)
        yield predict_request(client, "routed", client.files(numbers)).SerializeToString()

    try:
        answer = client.channel.stream_unary(_CALL)(late(), timeout=PATIENCE)
    except grpc.RpcError as error:
        if error.code().name in ("CANCELLED", "UNAVAILABLE", "RESOURCE_EXHAUSTED"):
            return Outcome(LEFT, error.code().name)
        raise
    from tensorflow_serving.apis.predict_pb2 import PredictResponse

    return client.judge("routed", numbers, rows_of(PredictResponse.FromString(answer)))


def _cancelled(client: Client) -> Outcome:
    request = predict_request(client, "serving_default", client.files([0] * 4)).SerializeToString()
    call = client.channel.unary_unary(_CALL).future(request, timeout=PATIENCE)
    client.stopped.wait(client.target.slow / 20)
    call.cancel()
    return Outcome(LEFT)


def _half_a_call(client: Client) -> Outcome:
    with client.connected(to_rpc=True) as connection:
        connection.sendall(_half_a_frame(client))
        client.stopped.wait(client.target.slow)
    return Outcome(LEFT)


REST_SLOW = {"byte by byte": _byte_by_byte, "a body that stops": _body_that_stops, "not reading": _not_reading}
RPC_SLOW = {"a late message": _slow_message, "cancelled": _cancelled, "half a frame, held": _half_a_call}

# ---- probes ----------------------------------------------------------------------------------------------------------


def _model_status(client: Client) -> Outcome:
    client.stopped.wait(0.2)
    status, answer = client.rest("GET", client.target.path)
    states = [version["state"] for version in answer.get("model_version_status", ())]
    if status == 200 and states == ["UNLOADING"]:
        return Outcome(BUSY, "UNLOADING")
    return Outcome(RIGHT) if (status, states) == (200, ["AVAILABLE"]) else Outcome(UNEXPECTED, f"{status}: {answer}")


def _health(client: Client) -> Outcome:
    client.stopped.wait(0.2)
    answer = client.channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=PATIENCE)
    if answer == b"\x08\x02":
        return Outcome(BUSY, "NOT_SERVING")
    return Outcome(RIGHT) if answer == _SERVING else Outcome(UNEXPECTED, repr(answer))


# ---- roles -----------------------------------------------------------------------------------------------------------

_REST, _RPC = {"REST": {"known images": rest_images}}, {"gRPC": {"known images": rpc_images}}
# Of sixteen clients ten ask for known images; the first eight have one of each other role.
ROLES = (
    _REST, _RPC, {"broken REST": REST_BROKEN}, {"broken gRPC": RPC_BROKEN},
    {"slow": REST_SLOW}, {"slow": RPC_SLOW}, {"probe": {"status": _model_status, "health": _health}}, _REST,
    _RPC, _REST, _RPC, _REST, _RPC, _REST, _RPC, {"broken REST": REST_BROKEN},
)  # fmt: skip
