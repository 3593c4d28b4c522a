"""A client of ``benchmarks.load``: its connections, how it asks, and what it makes of an answer."""

import base64
import contextlib
import http.client
import json
import random
import socket
import threading
import time
from dataclasses import dataclass

import grpc
import tensorflow as tf
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

from benchmarks.load_known import BROKEN, ROUTINGS, Album, compared

# What became of a request: answered as it must be; refused as it must be; asked to try again; given up by its own
# client, which is slow on purpose. None of the others may happen.
RIGHT, REFUSED, BUSY, LEFT = "right", "refused", "busy", "left"
WRONG, UNEXPECTED, LOST = "wrong", "unexpected", "lost"
BAD = (WRONG, UNEXPECTED, LOST)

# Seconds until a client takes an answer for lost.
PATIENCE = 120

# Seconds without a request after which a server may close a connection just when the next request is on its way.
IDLE = 0.1


@dataclass(frozen=True)
class Target:
    """A server, and what it must answer; ``slow`` is for how many seconds a slow client holds on."""

    rest: tuple[str, int]
    rpc: str
    album: Album
    name: str = "bach"
    slow: float = 10.0

    @property
    def path(self) -> str:
        return f"/v1/models/{self.name}"


@dataclass(frozen=True)
class Result:
    """One request: times are of ``time.monotonic``."""

    kind: str
    what: str
    began: float
    ended: float
    outcome: str
    detail: str = ""
    images: int = 0
    difference: float = 0.0
    resent: float | None = None  # seconds for which the connection was idle, where the request was sent twice

    @property
    def was_closed_in_use(self) -> bool:
        return self.resent is not None and self.resent < IDLE

    @property
    def is_bad(self) -> bool:
        """Whether this must not happen to a server that nobody stops."""
        return self.outcome in BAD or self.was_closed_in_use


@dataclass(frozen=True)
class Outcome:
    outcome: str
    detail: str = ""
    images: int = 0
    difference: float = 0.0


class Client(threading.Thread):
    """Makes one request after the other, of the kinds of its role, until it is told to stop."""

    def __init__(self, target: Target, role: dict, seed: int, results: list, stopped: threading.Event):
        super().__init__(name=f"client {seed}", daemon=True)
        self.target, self.random, self.stopped = target, random.Random(seed), stopped
        self._role, self._results = role, results
        self._http, self._channel = None, None
        self._answered, self._resent = 0.0, None

    def run(self):
        while not self.stopped.is_set():
            kind, what = self.random.choice([(kind, what) for kind, acts in self._role.items() for what in acts])
            began, self._resent = time.monotonic(), None
            found = self._outcome(self._role[kind][what], kind)
            ended = time.monotonic()
            self._results.append(Result(kind, what, began, ended, *vars(found).values(), self._resent))
            if found.outcome in (BUSY, LEFT, LOST):
                self.stopped.wait(0.5)
        self.close()

    def _outcome(self, act, kind) -> Outcome:
        try:
            return act(self)
        except grpc.RpcError as error:
            code, details = error.code(), error.details() or ""
            if code == grpc.StatusCode.UNAVAILABLE:
                # This is also what a call gets that the server never saw, or lost.
                told = "again" in details or "stopping" in details
                return Outcome(BUSY if told else LOST, details)
            return Outcome(LOST, f"{code.name}: {details}")
        except (OSError, http.client.HTTPException) as error:
            self._drop_http()
            # A server may cut off who is slow, but it may not leave anybody waiting.
            is_left = kind == "slow" and not isinstance(error, TimeoutError)
            return Outcome(LEFT if is_left else LOST, f"{type(error).__name__}: {error}")
        except Exception as error:  # an answer in another form than it must have, which ends no client
            self._drop_http()
            return Outcome(UNEXPECTED, repr(error))

    def close(self):
        self._drop_http()
        if self._channel:
            self._channel.close()

    def _drop_http(self):
        if self._http:
            self._http.close()
            self._http = None

    # ---- how a client asks -----------------------------------------------------------------------------------------

    def rest(self, method: str, path: str, body: bytes = b"") -> tuple[int, dict]:
        """Ask over a connection that is kept; where the server closed it meanwhile, over a new one, which is noted."""
        is_kept, idle = self._http is not None, time.monotonic() - self._answered
        if not is_kept:
            self._http = http.client.HTTPConnection(*self.target.rest, timeout=PATIENCE)
        try:
            self._http.request(method, path, body)
            response = self._http.getresponse()
        except ConnectionError:
            self._drop_http()
            if not is_kept:
                raise
            self._resent = idle
            return self.rest(method, path, body)
        status, data = response.status, response.read()
        self._answered = time.monotonic()
        if response.will_close or self.random.random() < 0.2:
            self._drop_http()
        return status, json.loads(data)

    @property
    def channel(self) -> grpc.Channel:
        if self._channel is None:
            # Each client has a connection of its own, where gRPC would share one.
            options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
            self._channel = grpc.insecure_channel(self.target.rpc, options=options)
        return self._channel

    def connected(self, to_rpc: bool = False) -> socket.socket:
        host, port = self.target.rpc.rsplit(":", 1) if to_rpc else self.target.rest
        return socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE)

    # ---- what it makes of the answer -------------------------------------------------------------------------------

    def chosen(self) -> tuple[str, list[int | None]]:
        """Return a signature and the numbers of one to four images, with now and then a broken one among them."""
        numbers = self.random.choices(range(len(self.target.album.images)), k=self.random.randint(1, 4))
        if self.random.random() < 0.2:
            numbers[self.random.randrange(len(numbers))] = None
        return self.random.choice(list(ROUTINGS)), numbers

    def files(self, numbers) -> list[bytes]:
        return [BROKEN if number is None else self.target.album.images[number].file for number in numbers]

    def judge(self, signature: str, numbers: list, rows: list[dict]) -> Outcome:
        """Compare the rows of an answer with the known ones."""
        album = self.target.album
        if len(rows) != len(numbers):
            return Outcome(WRONG, f"{len(rows)} answers for {len(numbers)} images")
        worst = 0.0
        for number, row in zip(numbers, rows, strict=True):
            if number is None:
                if row["ok"] or row["label"]:
                    return Outcome(WRONG, "a broken image has an answer")
                continue
            worst = max(worst, compared(album.images[number].answers[signature], row))
            if not worst <= album.tolerance:
                of = [other for other in range(len(album.images))
                      if compared(album.images[other].answers[signature], row) <= album.tolerance]  # fmt: skip
                return Outcome(WRONG, f"image {number} has " + (f"the answer of {of[0]}" if of else "no known answer"))
        return Outcome(RIGHT, images=len(numbers), difference=worst)


def b64(file: bytes) -> dict:
    return {"b64": base64.b64encode(file).decode()}


def rest_images(client: Client) -> Outcome:
    """Known images over REST, as rows or as columns."""
    signature, numbers = client.chosen()
    form = client.random.choice(("instances", "inputs"))
    body = {"signature_name": signature, form: [b64(file) for file in client.files(numbers)]}
    status, answer = client.rest("POST", f"{client.target.path}:predict", json.dumps(body).encode())
    if status == 503:
        return Outcome(BUSY, answer["error"])
    if status != 200:
        return Outcome(UNEXPECTED, f"{status}: {answer}")
    rows = answer.get("predictions")
    if rows is None:
        columns = answer["outputs"]
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return client.judge(signature, numbers, rows)


def predict_request(client: Client, signature: str, files: list[bytes]) -> PredictRequest:
    request = PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = client.target.name, signature
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto(files, tf.string))
    return request


def rpc_images(client: Client) -> Outcome:
    """Known images over gRPC."""
    signature, numbers = client.chosen()
    request = predict_request(client, signature, client.files(numbers))
    response = PredictionServiceStub(client.channel).Predict(request, timeout=PATIENCE)
    return client.judge(signature, numbers, rows_of(response))


def rows_of(response) -> list[dict]:
    columns = {name: tf.make_ndarray(tensor) for name, tensor in response.outputs.items()}
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return [row | {"label": row["label"].decode(), "ok": bool(row["ok"])} for row in rows]


def exchanged(client: Client, data: bytes) -> int:
    """Send bytes and nothing after them; return the status of the first answer."""
    with client.connected() as connection:
        with contextlib.suppress(ConnectionError):  # an answer may be there all the same
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        return status_of(connection)


def status_of(connection: socket.socket) -> int:
    """Read an answer to its end; return its status."""
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(2**16):
            answer += part
    if not answer.startswith(b"HTTP/1.1 "):
        raise ConnectionError(f"no answer but {answer[:40]!r}")
    return int(answer[9:12])


def refusal(status, expected) -> Outcome:
    """Return the outcome of a request that must be refused, or answered, with a status."""
    if status == 503:
        return Outcome(BUSY)
    return Outcome(REFUSED) if status in expected else Outcome(UNEXPECTED, f"{status} instead of {expected}")
