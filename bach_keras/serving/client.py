"""Answers from a tree that TF Serving, or the command ``serve``, holds: over REST or gRPC."""

import base64
import json
import re
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import grpc
import numpy as np
import requests
import tensorflow as tf
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

from bach_keras.serving.address import Address
from bach_keras.serving.card import decodes_otherwise
from bach_keras.serving.predict import ROUTINGS
from bach_keras.tree import NODES

# Seconds to wait before each further try.
PAUSES = (0.5, 1.0, 2.0, 4.0)

# Of encoded images in one request; a larger image goes alone.
REQUEST_BYTES = 32 * 2**20


# How TF Serving, by either transport, and `serve` say that a model has no such signature, or one that takes something
# else.
_OF_ANOTHER_KIND = re.compile(
    r"Serving signature (name|key):? ?\"card\" not found|input tensor alias not found in signature"
    r"|input size does not match signature|does not have named input"
    r"|The keys of 'inputs' must be:|The inputs of card are"
)

# Seconds; more than a day overflows below.
MAX_TIMEOUT = 86_400


class ServerError(OSError):
    """A server that gave no answer."""


class UnavailableError(ServerError):
    """Nobody listens, or the server is not ready: another try may help."""


class NotTakenError(ServerError):
    """The server did not take the request as it is: no other try will help."""


class Remote:
    """A served tree; ``predict`` takes it in place of an ``Export``.

    Args:
        url: ``http://HOST:PORT``, ``https://...`` or ``grpc://HOST:PORT``; behind it nothing,
            or TF Serving's ``/v1/models/NAME``, with ``/versions/N`` or ``/labels/LABEL`` or neither.
        timeout: seconds that one request may take, at most MAX_TIMEOUT.

    Attributes:
        card: the model's card, or None where the server has none to give.

    Raises:
        ValueError: the URL is no such address, or the timeout no such time.
        OSError: no server answers there, or it has no such model, version or label.
    """

    def __init__(self, url: str, timeout: float = 60.0):
        if not 0 < timeout <= MAX_TIMEOUT:
            raise ValueError(
                f"A server cannot be given {timeout:g} s: --timeout is more than 0, at most {MAX_TIMEOUT}."
            )
        self._server = _connect(url, timeout)
        self.card = self._card()

    @property
    def is_phantom(self) -> bool:
        """Whether a member is known to have learned from synthetic images."""
        return self.card is not None and "phantom" in self.card["configs"]

    @property
    def decodes_otherwise(self) -> bool:
        """Whether it is known to be of an earlier version, which gives a JPEG other pixels."""
        return self.card is not None and decodes_otherwise(self.card)

    def encoded(self, data: list[bytes], routing: str = "soft") -> dict[str, np.ndarray]:
        """Classify PNG, JPEG or BMP files of any sizes.

        Raises:
            OSError: the server did not answer, after all tries, or it is no tree of this project.
        """
        parts = [self._call(ROUTINGS[routing], "image_bytes", part) for part in _parts(data)]
        names = {"probabilities", "label", "ok", *NODES}
        if not names <= set(parts[0]):
            raise NotTakenError(
                f"{self._server.url} serves no export of this project: it does not answer {sorted(names)}."
            )
        return {name: np.concatenate([part[name] for part in parts]) for name in names}

    def _card(self):
        try:
            return json.loads(self._call("card", "query", [b""])["card"][0])
        except NotTakenError as error:
            if not _OF_ANOTHER_KIND.search(str(error)):
                raise
        except (KeyError, IndexError, TypeError, ValueError):  # a model of another kind
            pass
        return None

    def _call(self, signature, name, values):
        for pause in (*PAUSES, None):
            try:
                return self._server.call(signature, name, values)
            except UnavailableError:
                if pause is None:
                    raise
            time.sleep(pause)


def _connect(url, timeout):
    try:
        parts = urlsplit(url)
        address = Address.parse(parts.path.rstrip("/")) if parts.path.strip("/") else Address()
        is_good = parts.scheme in _TRANSPORTS and parts.hostname and parts.port and address
    except ValueError:  # a port that is none
        is_good = False
    if not is_good:
        raise ValueError(
            f"{url!r} is no server's address: give http://HOST:8501 or grpc://HOST:8500, "
            "and behind it /v1/models/NAME if the model has another name."
        )
    return _TRANSPORTS[parts.scheme](parts, address, timeout)


def _parts(data: list[bytes]) -> Iterator[list[bytes]]:
    part, size = [], 0
    for image in data:
        if part and size + len(image) > REQUEST_BYTES:
            yield part
            part, size = [], 0
        part.append(image)
        size += len(image)
    yield part


class _Rest:
    """TF Serving's REST interface, in its columnar form."""

    def __init__(self, parts, address, timeout):
        self.url = f"{parts.scheme}://{parts.netloc}"
        self._place = f"{self.url}{address.path}:predict"
        self._timeout = timeout
        self._session = requests.Session()

    def call(self, signature, name, values) -> dict[str, np.ndarray]:
        encoded = [{"b64": base64.b64encode(value).decode()} for value in values]
        body = {"signature_name": signature, "inputs": {name: encoded}}
        try:
            response = self._session.post(self._place, json=body, timeout=self._timeout)
        except requests.Timeout:
            raise _too_slow(self.url, self._timeout) from None
        except requests.exceptions.SSLError as error:
            raise ServerError(
                f"{self.url} speaks no TLS that is trusted here: is it https, and who signed its certificate? "
                f"({_innermost(error)})"
            ) from None
        except requests.RequestException as error:
            raise _no_answer(self.url, _innermost(error)) from None
        if response.status_code == requests.codes.service_unavailable:
            raise UnavailableError(f"{self.url} is not ready: {_reason(response)}")
        if response.status_code == requests.codes.bad_request:
            raise NotTakenError(f"{self.url} refused the request: {_reason(response)}")
        if not response.ok:
            raise ServerError(f"{self.url} failed with {response.status_code}: {_reason(response)}")
        try:
            outputs = response.json()["outputs"]
            # A signature with one output answers with the bare list.
            outputs = outputs if isinstance(outputs, dict) else {signature: outputs}
            return {name: _array(value) for name, value in outputs.items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ServerError(f"{self.url} does not answer as TF Serving does: is the address right?") from None


class _Grpc:
    """TF Serving's PredictionService."""

    def __init__(self, parts, address, timeout):
        self.url = f"{parts.scheme}://{parts.netloc}"
        self._address, self._timeout = address, timeout
        # Images are larger than gRPC's usual limit of 4 MB.
        limits = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        self._service = PredictionServiceStub(grpc.insecure_channel(parts.netloc, options=limits))

    def call(self, signature, name, values) -> dict[str, np.ndarray]:
        request = PredictRequest()
        request.model_spec.name = self._address.name
        request.model_spec.signature_name = signature
        if self._address.version is not None:
            request.model_spec.version.value = self._address.version
        elif self._address.label:
            request.model_spec.version_label = self._address.label
        request.inputs[name].CopyFrom(tf.make_tensor_proto(values, tf.string))
        try:
            response = self._service.Predict(request, timeout=self._timeout)
        except grpc.RpcError as error:
            raise self._fault(error) from None
        return {name: tf.make_ndarray(value) for name, value in response.outputs.items()}

    def _fault(self, error) -> ServerError:
        code, details = error.code(), error.details()
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            return _too_slow(self.url, self._timeout)
        if code == grpc.StatusCode.UNAVAILABLE:
            return _no_answer(self.url, details)
        if code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION):
            return NotTakenError(f"{self.url} refused the request: {details}")
        return ServerError(f"{self.url} failed with {code.name}: {details}")


_TRANSPORTS = {"http": _Rest, "https": _Rest, "grpc": _Grpc}


def _too_slow(url, timeout) -> ServerError:
    return ServerError(f"{url} took longer than {timeout:g} s: give it more with --timeout.")


def _no_answer(url, reason) -> UnavailableError:
    return UnavailableError(f"{url} does not answer: is the server running, and is this its address? ({reason})")


def _innermost(error) -> str:
    """Say what began a chain of errors, as requests wraps them several times."""
    while error.__context__ is not None:
        error = error.__context__
    return getattr(error, "strerror", None) or str(error)


def _reason(response) -> str:
    try:
        return response.json()["error"]
    except (ValueError, KeyError, TypeError):
        return response.reason


def _array(values) -> np.ndarray:
    """Turn a JSON list into what the model gave: float32, bool, or bytes for strings."""
    array = np.asarray(values)
    if array.dtype.kind == "U":
        return np.array([value.encode() for value in values], object)
    return array.astype(np.float32) if array.dtype.kind == "f" else array
