"""How requests reach a server and answers come back, over REST or gRPC, in bounded time and bytes."""

import base64
import math
import queue
import threading
import time

import grpc
import requests
import tensorflow as tf
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

from bach_keras.fields import FieldError, parse_object
from bach_keras.serving.remote import proxy, tensors

# The most bytes of one answer. Those for eight images have a few kilobytes, a card that names thousands of images some
# hundred.
MAX_ANSWER = 16 * 2**20

# The most characters of a server's own words in one of our sentences.
MAX_SAID = 300


class ServerError(OSError):
    """A server that gave no answer."""


class UnavailableError(ServerError):
    """Nobody listens, or the server is not ready: another try may help."""


class NotTakenError(ServerError):
    """The server did not take the request as it is: no other try will help."""


class Rest:
    """TF Serving's REST interface, in its columnar form; ``url`` is its name in sentences."""

    def __init__(self, parts, address, timeout):
        server = f"{parts.scheme}://{parts.netloc}"
        self._place = f"{server}{address.path}:predict"
        self._proxy = proxy.for_http(self._place, parts.hostname)
        self.url = _named(server, self._proxy)
        self._timeout = timeout
        self._session = requests.Session()

    def call(self, signature, name, values) -> dict[str, list]:
        encoded = [{"b64": base64.b64encode(value).decode()} for value in values]
        body = {"signature_name": signature, "inputs": {name: encoded}}
        try:
            code, phrase, data = _within(self._timeout, lambda end: self._ask(body, end))
        except (TimeoutError, requests.Timeout):
            self._session = requests.Session()  # a thread that was left behind may still use the old one
            raise _too_slow(self.url, self._timeout) from None
        except requests.exceptions.SSLError as error:
            raise ServerError(
                f"TLS to {self.url} failed: is it an https address with a trusted certificate? ({_innermost(error)})"
            ) from None
        except requests.ConnectionError as error:
            raise _no_answer(self.url, _innermost(error)) from None
        except requests.RequestException as error:
            raise ServerError(
                f"The request to {self.url} failed, or its answer is incomplete: {_innermost(error)}"
            ) from None
        _check(self.url, code, _reason(data) or phrase)
        try:
            outputs = parse_object(bytes(data))["outputs"]
            # A signature with one output answers with the bare list.
            outputs = outputs if isinstance(outputs, dict) else {signature: outputs}
            # The lists must form tensors, however deep they are nested.
            for value in outputs.values():
                _shape(value)
            return outputs
        except (ValueError, KeyError, RecursionError):  # JSON of any other form; a FieldError is a ValueError
            words = f" ({reason})" if (reason := _reason(data)) else ""
            raise ServerError(f"{self.url} does not answer as TF Serving does: is the address right?{words}") from None

    def _ask(self, body, end):
        """Return the status, its phrase and the body of the answer."""
        # No redirect is followed: images must go to the address that was given, and to no other.
        asked = self._session.post(
            self._place,
            json=body,
            headers={"Accept-Encoding": "identity"},
            proxies=dict.fromkeys(("http", "https", "all"), self._proxy),
            timeout=self._timeout,
            stream=True,
            allow_redirects=False,
        )
        with asked as response:
            if response.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise ServerError(f"{self.url} sends a compressed answer, which was not requested.")
            # The bytes are counted as they come, because a server may send without an end.
            data = bytearray()
            for chunk in response.iter_content(2**16):
                data += chunk
                if len(data) > MAX_ANSWER:
                    raise ServerError(f"{self.url} answers with more than {MAX_ANSWER} bytes, so it is not read.")
                if time.monotonic() > end:
                    raise TimeoutError
            return response.status_code, response.reason, data


def _check(url, code, reason):
    """Raise what a status other than 200 means."""
    reason = said(reason)
    if code == requests.codes.ok:
        return
    if code == requests.codes.service_unavailable:
        raise UnavailableError(f"{url} is not ready: {reason}")
    if code == requests.codes.bad_request:
        raise NotTakenError(f"{url} refused the request: {reason}")
    if 300 <= code < 400:
        raise ServerError(
            f"{url} redirects ({code}: {reason}), which is not followed: give the address that it redirects to."
        )
    raise ServerError(f"{url} failed with {code}: {reason}")


def _shape(value) -> tuple:
    """Return the shape of nested lists; lists of different lengths are a ValueError."""
    if not isinstance(value, list):
        return ()
    shapes = {_shape(each) for each in value}
    if len(shapes) > 1:
        raise ValueError("not a tensor")
    return (len(value), *(shapes.pop() if shapes else ()))


def _within(seconds, work):
    """Return what ``work`` does, called with the time when it must have ended; a TimeoutError if it takes longer."""
    # The time-out of requests is for each read, not for all of them, and the look-up of a name has none. So the work
    # has a thread of its own, which is left behind when it is late.
    done = queue.SimpleQueue()
    end = time.monotonic() + seconds

    def run():
        try:
            done.put((work(end), None))
        except BaseException as error:  # any error is raised in the thread that waits for the result
            done.put((None, error))

    threading.Thread(target=run, name="request", daemon=True).start()
    try:
        value, error = done.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError from None
    if error is not None:
        raise error
    return value


class Grpc:
    """TF Serving's PredictionService; ``url`` is its name in sentences."""

    def __init__(self, parts, address, timeout):
        server = f"{parts.scheme}://{parts.netloc}"
        proxy_ = proxy.for_grpc(f"http://{parts.netloc}", parts.hostname)
        self.url = _named(server, proxy_)
        self._address, self._timeout = address, timeout
        options = [
            ("grpc.max_send_message_length", -1),  # images are larger than gRPC's default limit of 4 MB
            ("grpc.max_receive_message_length", MAX_ANSWER),
            ("grpc.compression_enabled_algorithms_bitset", 1),  # none, as the limit counts compressed bytes
            ("grpc.http_proxy", proxy_) if proxy_ else ("grpc.enable_http_proxy", 0),
        ]
        self._service = PredictionServiceStub(grpc.insecure_channel(parts.netloc, options=options))

    def call(self, signature, name, values) -> dict[str, list | None]:
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
        return {name: _listed(value) for name, value in response.outputs.items()}

    def _fault(self, error) -> ServerError:
        code, details = error.code(), said(error.details())
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            return _too_slow(self.url, self._timeout)
        if code == grpc.StatusCode.UNAVAILABLE:
            return _no_answer(self.url, details)
        if code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION):
            return NotTakenError(f"{self.url} refused the request: {details}")
        return ServerError(f"{self.url} failed with {code.name}: {details}")


def _listed(tensor) -> list | None:
    """Return the values of a tensor as nested lists, texts as str; None where it cannot be read so."""
    try:
        # A tensor of a few bytes can claim a shape that would fill the memory.
        _, shape = tensors.claim(tensor)
        if min(shape, default=1) < 0 or math.prod(shape) > MAX_ANSWER:
            return None
        array = tensors.as_array(tensor)
        if array.dtype != object:
            return array.tolist()
        return [value.decode() for value in array] if array.ndim == 1 else None
    except (tensors.TensorError, UnicodeDecodeError):
        return None


def said(text) -> str:
    """Return a server's words as one printable line of bounded length."""
    shown = "".join(c if c.isprintable() or c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in str(text)[:10_000])
    shown = " ".join(shown.split())
    return shown if len(shown) <= MAX_SAID else f"{shown[:MAX_SAID]} ..."


def _named(server, proxy_) -> str:
    shown = proxy.without_password(server)
    return f"{shown} (through the environment's proxy {proxy.without_password(proxy_)})" if proxy_ else shown


def _too_slow(url, timeout) -> ServerError:
    return ServerError(f"{url} took longer than {timeout:g} s: allow more with --timeout.")


def _no_answer(url, reason) -> UnavailableError:
    return UnavailableError(f"{url} does not answer: is the server running, and is this its address? ({reason})")


def _innermost(error) -> str:
    """Return the first error of a chain, in words."""
    # requests wraps errors several times.
    while error.__context__ is not None:
        error = error.__context__
    return said(getattr(error, "strerror", None) or error)


def _reason(data) -> str:
    """Return the words of a JSON error; "" where the body is not one."""
    try:
        reason = parse_object(bytes(data)).get("error")
    except FieldError:
        return ""
    return said(reason) if isinstance(reason, str) else ""
