"""TF Serving's PredictionService over gRPC, for the development server: Predict and GetModelMetadata."""

import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import grpc
import tensorflow as tf
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest, GetModelMetadataResponse
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse

from bach_keras.serving.remote import calls, rest, tensors
from bach_keras.serving.remote.admission import Admission
from bach_keras.serving.remote.servable import MAX_IMAGES, RefusedError, Servable, bad_request, check_count

# How many calls' messages are received at once, and how many calls there may be.
CALLS = 8
MOST = 64

# The most bytes of a message without images.
SMALL = 2**16

# A few bytes can become a large message object, so one message at a time is parsed.
_parsing = threading.Lock()


class Predictions(grpc.GenericRpcHandler):
    """The service for one servable; other calls answer UNIMPLEMENTED.

    A call is accepted when it arrives, as its message is received only when there is a thread for it. What is refused
    is so in the pool ``refusals``, without waiting.
    """

    def __init__(self, servable: Servable, admission: Admission, refusals: ThreadPoolExecutor):
        self._admission, self._refusals = admission, refusals
        self._calls, self._lock = 0, threading.Lock()
        place = "/tensorflow.serving.PredictionService"
        self._answers = {
            f"{place}/Predict": lambda number: partial(predict, servable, partial(admission.slot, number)),
            f"{place}/GetModelMetadata": lambda number: partial(metadata, servable),
        }

    def service(self, call):
        if call.method not in self._answers:
            return None
        try:
            number = self._enter()
        except RefusedError as refusal:
            return calls.refused(refusal, self._refusals)
        return calls.handler(self._answers[call.method](number), self._is_urgent, self._leave)

    def _enter(self) -> int:
        with self._lock:
            if self._calls >= MOST:
                raise RefusedError(grpc.StatusCode.UNAVAILABLE, "There are too many calls: try again.")
            number = self._admission.enter()
            self._calls += 1
            return number

    def _leave(self):
        with self._lock:
            self._calls -= 1
        self._admission.leave()

    def _is_urgent(self) -> bool:
        # Clients that send slowly must not keep the threads from others, nor the server from its end.
        return self._calls > CALLS or not self._admission.is_open


def limits(max_message: int) -> list[tuple[str, int]]:
    """Return the options of a server that accepts messages of at most so many bytes."""
    return [
        ("grpc.max_receive_message_length", max_message),
        # None is enabled, as a message that is small while it is compressed would pass that limit.
        ("grpc.compression_enabled_algorithms_bitset", 1),
        ("grpc.max_concurrent_streams", MOST),
        ("grpc.max_connection_idle_ms", 300_000),
        ("grpc.so_reuseport", 0),
    ]


def predict(servable: Servable, slot: Callable, message: bytes, is_wanted: Callable[[], bool]) -> PredictResponse:
    """Answer a PredictRequest, in its slot."""
    with slot(is_wanted):
        with _parsing:
            request = calls.parsed(PredictRequest, message)
        servable.check(calls.address_of(request.model_spec))
        signature = request.model_spec.signature_name or "serving_default"
        outputs = servable.predict(signature, _arrays(servable, signature, request.inputs))
    wanted = list(request.output_filter) or list(outputs)
    if missing := set(wanted) - set(outputs):
        raise bad_request(f"output tensor alias not found in signature: {sorted(missing)}")
    if len(set(wanted)) < len(wanted):
        raise bad_request("duplicate output tensor alias in output_filter")
    response = PredictResponse(model_spec=_spec(servable, signature))
    for name in wanted:
        response.outputs[name].CopyFrom(tf.make_tensor_proto(outputs[name]))
    return response


def metadata(servable: Servable, message: bytes, is_wanted: Callable[[], bool]) -> GetModelMetadataResponse:
    """Answer a GetModelMetadataRequest for ``signature_def``, the only kind there is."""
    if len(message) > SMALL:
        raise bad_request(f"The request has {len(message)} bytes; at most {SMALL} are allowed.")
    request = calls.parsed(GetModelMetadataRequest, message)
    servable.check(calls.address_of(request.model_spec))
    if list(request.metadata_field) != ["signature_def"]:
        raise bad_request("Metadata field must be: signature_def")
    response = GetModelMetadataResponse(model_spec=_spec(servable, ""))
    response.metadata["signature_def"].Pack(servable.signature_defs)
    return response


def _spec(servable, signature) -> ModelSpec:
    spec = ModelSpec(name=servable.name, signature_name=signature)
    spec.version.value = servable.version
    return spec


def _arrays(servable, signature, inputs):
    """Return the inputs as arrays."""
    # A few bytes can claim any size, so all claims are checked before an array is made.
    servable.check_inputs(signature, {name: _claim(name, tensor) for name, tensor in inputs.items()})
    try:
        return {name: tensors.as_array(tensor) for name, tensor in inputs.items()}
    except tensors.TensorError as error:
        raise bad_request(f"An input is not a complete tensor: {error}") from error


def _claim(name, tensor):
    try:
        dtype, shape = tensors.claim(tensor)
    except tensors.TensorError as error:
        raise bad_request(f"{name} has {error}.") from None
    if shape:
        check_count(name, shape[0])
    # All strings are images, one in each row.
    most = MAX_IMAGES if dtype == tf.string else rest.MAX_BODY // (dtype.size or 1)
    if min(shape, default=1) < 0 or math.prod(shape) > most:
        raise bad_request(f"{name} has the shape {list(shape)}, which is more than a request may hold.")
    return dtype, shape
