"""TF Serving's PredictionService over gRPC, for the development server: Predict and GetModelMetadata."""

import math
import threading
import traceback
from functools import partial

import grpc
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest, GetModelMetadataResponse
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse

from bach_keras.serving.address import Address
from bach_keras.serving.remote import rest, tensors
from bach_keras.serving.remote.servable import MAX_IMAGES, RefusedError, Servable, bad_request, check_count

# How many calls' messages are received at once, and how many calls may wait for that.
CALLS = 8
WAITING = 64

# Seconds until a message must be complete.
RECEIVE = 60

# The most bytes of a message without images.
SMALL = 2**16

# A few bytes can become a large message object, so one message at a time is parsed.
_parsing = threading.Lock()


def handlers(servable: Servable, slots: threading.Semaphore) -> grpc.GenericRpcHandler:
    """Return the service for one servable; each prediction holds a slot, and other calls answer UNIMPLEMENTED."""
    methods = {"Predict": partial(predict, servable, slots), "GetModelMetadata": partial(metadata, servable)}
    return grpc.method_handlers_generic_handler(
        "tensorflow.serving.PredictionService", {name: _method(answer) for name, answer in methods.items()}
    )


def limits(max_message: int) -> list[tuple[str, int]]:
    """Return the options of a server that accepts messages of at most so many bytes."""
    return [
        ("grpc.max_receive_message_length", max_message),
        # None is enabled, as a message that is small while it is compressed would pass that limit.
        ("grpc.compression_enabled_algorithms_bitset", 1),
        ("grpc.max_concurrent_streams", WAITING),
        ("grpc.max_connection_idle_ms", 300_000),
        ("grpc.so_reuseport", 0),
    ]


def _method(answer):
    """Wrap a function from a message's bytes to a response."""
    # The wrapper takes a stream, which is the same on the wire. So it starts before the message is received, can limit
    # how long that takes, and can give a reason where bytes are not a message.

    def handle(messages, context):
        try:
            return answer(_received(messages, context))
        except RefusedError as error:
            refusal = error
        except MemoryError:
            refusal = RefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED, "There is no memory for this request.")
        except Exception:  # a bug of ours ends one call, not the server
            traceback.print_exc()
            refusal = RefusedError(grpc.StatusCode.INTERNAL, "The server failed; its own output says why.")
        context.abort(refusal.code, str(refusal))

    return grpc.stream_unary_rpc_method_handler(handle, response_serializer=lambda message: message.SerializeToString())


def _received(messages, context) -> bytes:
    timer = threading.Timer(RECEIVE, context.cancel)
    timer.daemon = True
    timer.start()
    try:
        return next(messages)
    except StopIteration:
        raise bad_request("The call holds no message.") from None
    except grpc.RpcError:  # cancelled, by the client or by the timer
        raise RefusedError(grpc.StatusCode.CANCELLED, "The message is not complete.") from None
    finally:
        timer.cancel()


def predict(servable: Servable, slots: threading.Semaphore, message: bytes) -> PredictResponse:
    """Answer a PredictRequest."""
    with slots:
        with _parsing:
            request = _parsed(PredictRequest, message)
        servable.check(_address(request.model_spec))
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


def metadata(servable: Servable, message: bytes) -> GetModelMetadataResponse:
    """Answer a GetModelMetadataRequest for ``signature_def``, the only kind there is."""
    if len(message) > SMALL:
        raise bad_request(f"The request has {len(message)} bytes; at most {SMALL} are allowed.")
    request = _parsed(GetModelMetadataRequest, message)
    servable.check(_address(request.model_spec))
    if list(request.metadata_field) != ["signature_def"]:
        raise bad_request("Metadata field must be: signature_def")
    response = GetModelMetadataResponse(model_spec=_spec(servable, ""))
    response.metadata["signature_def"].Pack(servable.signature_defs)
    return response


def _parsed(kind, message: bytes):
    try:
        return kind.FromString(message)
    except DecodeError:
        raise bad_request(f"The message is not a {kind.DESCRIPTOR.name}.") from None


def _address(spec) -> Address:
    chosen = spec.WhichOneof("version_choice")
    if chosen == "version_label" and not spec.version_label:
        raise bad_request("Unrecognized servable version label: ")
    return Address(spec.name, spec.version.value if chosen == "version" else None, spec.version_label)


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
