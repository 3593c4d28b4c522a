"""A small server for development: TF Serving's REST paths and its PredictionService, over one export."""

import math
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import ThreadingHTTPServer

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataResponse
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.apis.predict_pb2 import PredictResponse
from tensorflow_serving.apis.prediction_service_pb2_grpc import (
    PredictionServiceServicer,
    add_PredictionServiceServicer_to_server,
)

from bach_keras.serving import rest
from bach_keras.serving.address import NAME, Address
from bach_keras.serving.predict import Export
from bach_keras.serving.servable import MAX_IMAGES, RefusedError, Servable, bad_request, check_count

# Requests that either listener answers at once.
AT_ONCE = 4

# Seconds that a request under way may take to end when the server stops.
GRACE = 5


class PredictionService(PredictionServiceServicer):
    """Predict and GetModelMetadata for one servable; the other calls answer UNIMPLEMENTED."""

    def __init__(self, servable: Servable):
        self._servable = servable

    def Predict(self, request, context):  # noqa: N802
        """Answer a PredictRequest."""
        try:
            self._servable.check(_address(request.model_spec))
            signature = request.model_spec.signature_name or "serving_default"
            outputs = self._servable.predict(signature, _arrays(request.inputs))
            missing = set(request.output_filter) - set(outputs)
            if missing:
                raise bad_request(f"output tensor alias not found in signature: {sorted(missing)}")
        except RefusedError as refusal:
            context.abort(refusal.code, str(refusal))
        response = PredictResponse(model_spec=self._spec(signature))
        for name in request.output_filter or outputs:
            response.outputs[name].CopyFrom(tf.make_tensor_proto(outputs[name]))
        return response

    def GetModelMetadata(self, request, context):  # noqa: N802
        """Answer a GetModelMetadataRequest for ``signature_def``, the one kind there is."""
        try:
            self._servable.check(_address(request.model_spec))
            if list(request.metadata_field) != ["signature_def"]:
                raise bad_request("Metadata field must be: signature_def")
        except RefusedError as refusal:
            context.abort(refusal.code, str(refusal))
        response = GetModelMetadataResponse(model_spec=self._spec(""))
        response.metadata["signature_def"].Pack(self._servable.signature_defs)
        return response

    def _spec(self, signature):
        spec = ModelSpec(name=self._servable.name, signature_name=signature)
        spec.version.value = self._servable.version
        return spec


def _address(spec) -> Address:
    version = spec.version.value if spec.HasField("version") else None
    return Address(spec.name, version, spec.version_label)


def _arrays(inputs):
    try:
        for name, tensor in inputs.items():
            _check_claim(name, tensor)
        return {name: tf.make_ndarray(tensor) for name, tensor in inputs.items()}
    except (TypeError, ValueError) as error:
        raise bad_request(f"An input is no whole tensor: {error}") from error
    except MemoryError:
        raise RefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED, "There is no memory for this request.") from None


def _check_claim(name, tensor):
    """Refuse a tensor that says it is larger than a request may be: a few bytes can claim any shape."""
    sides = [side.size for side in tensor.tensor_shape.dim]
    if sides:
        check_count(name, sides[0])
    # All strings are images, one a row.
    size = np.dtype(tf.as_dtype(tensor.dtype).as_numpy_dtype).itemsize
    most = MAX_IMAGES if tensor.dtype == tf.string.as_datatype_enum else rest.MAX_BODY // size
    if min(sides, default=1) < 0 or math.prod(sides) > most:
        raise bad_request(f"{name} has the shape {sides}, which is more than a request may hold.")


class Server:
    """The two listeners; a context manager that starts and stops them.

    Args:
        export: the model.
        name: what requests must call it.
        host: the address to listen on.
        port: for REST; 0 takes a free one.
        grpc_port: for gRPC; 0 takes a free one.

    Attributes:
        rest_url: where REST answers.
        grpc_url: where gRPC answers.

    Raises:
        OSError: a port is taken.
    """

    def __init__(self, export: Export, name: str = NAME, host: str = "127.0.0.1", port: int = 0, grpc_port: int = 0):
        servable = Servable(export, name)
        self._slots = threading.Semaphore(AT_ONCE)
        handler = type("Handler", (rest.Handler,), {"servable": servable, "slots": self._slots})
        try:
            self._http = ThreadingHTTPServer((host, port), handler)
        except OSError as error:
            raise _taken(host, port, "--port") from error
        limits = [("grpc.max_receive_message_length", rest.MAX_BODY), ("grpc.so_reuseport", 0)]
        self._grpc = grpc.server(ThreadPoolExecutor(AT_ONCE), options=limits)
        add_PredictionServiceServicer_to_server(PredictionService(servable), self._grpc)
        try:
            grpc_port = self._grpc.add_insecure_port(f"{host}:{grpc_port}")
        except RuntimeError as error:
            self._http.server_close()
            raise _taken(host, grpc_port, "--grpc-port") from error
        self.rest_url = f"http://{host}:{self._http.server_address[1]}"
        self.grpc_url = f"grpc://{host}:{grpc_port}"
        self.place = f"{Address(name).path}/versions/{servable.version}"

    def __enter__(self):
        self._grpc.start()
        self._thread = threading.Thread(target=self._http.serve_forever, name="rest")
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()
        ended = self._grpc.stop(GRACE)
        # No thread of REST is waited for, as a silent client may hold one; so all slots are taken here, for good.
        end = time.monotonic() + GRACE
        for _ in range(AT_ONCE):
            self._slots.acquire(timeout=max(0, end - time.monotonic()))
        ended.wait()


def _taken(host, port, option) -> OSError:
    return OSError(f"Port {port} of {host} cannot be listened on: it is taken, or not ours; choose another {option}.")


def serve(server: Server, say=print) -> None:
    """Answer until SIGINT or SIGTERM, then let requests under way end."""
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    with server:
        say(f"serving {server.place} at {server.rest_url} and {server.grpc_url}, for development; Ctrl-C ends it")
        stopped.wait()
