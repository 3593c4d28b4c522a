"""What the development server says of its own state over gRPC, under any load and while it stops.

That is the standard service by which probes ask (``grpc.health.v1.Health``), and TF Serving's ModelService.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest, GetModelStatusResponse

from bach_keras.serving.remote import calls
from bach_keras.serving.remote.admission import Admission
from bach_keras.serving.remote.servable import RefusedError, Servable

# What a probe can ask about: the server as a whole, and the service that answers for images.
SERVICES = ("", "tensorflow.serving.PredictionService")

UNKNOWN, SERVING, NOT_SERVING, SERVICE_UNKNOWN = range(4)

# How many of these calls are answered at once, and how many clients may watch, each of which takes a thread.
CALLS = 4
WATCHERS = 16


def _health_messages():
    """Return the classes of Health's request and response, as gRPC publishes their description in words only."""
    kind = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="health.proto", package="grpc.health.v1", syntax="proto3")
    request = file.message_type.add(name="HealthCheckRequest")
    request.field.add(name="service", number=1, type=kind.TYPE_STRING, label=kind.LABEL_OPTIONAL)
    response = file.message_type.add(name="HealthCheckResponse")
    values = response.enum_type.add(name="ServingStatus").value
    for number, name in enumerate(("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")):
        values.add(name=name, number=number)
    of_status = ".grpc.health.v1.HealthCheckResponse.ServingStatus"
    response.field.add(name="status", number=1, type=kind.TYPE_ENUM, type_name=of_status, label=kind.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()  # not the common one, in which a package may describe them too
    pool.AddSerializedFile(file.SerializeToString())
    names = ("HealthCheckRequest", "HealthCheckResponse")
    return [message_factory.GetMessageClass(pool.FindMessageTypeByName(f"grpc.health.v1.{name}")) for name in names]


HealthRequest, HealthResponse = _health_messages()


class State(grpc.GenericRpcHandler):
    """The calls that ask for the server's state; ``stop`` and ``end`` tell those who watch it."""

    def __init__(self, servable: Servable, admission: Admission):
        self._servable, self._admission = servable, admission
        self.pool, self._watchers = ThreadPoolExecutor(CALLS, "state"), ThreadPoolExecutor(WATCHERS, "watch")
        self._changed, self._watching, self._is_over = threading.Condition(), 0, False
        quickly = partial(calls.handler, is_urgent=lambda: True, ended=lambda: None, pool=self.pool)
        watch = partial(self._watch)
        watch.experimental_thread_pool = self._watchers
        self._handlers = {
            "/grpc.health.v1.Health/Check": quickly(self._check),
            "/grpc.health.v1.Health/Watch": grpc.stream_stream_rpc_method_handler(
                watch, response_serializer=lambda message: message.SerializeToString()
            ),
            "/tensorflow.serving.ModelService/GetModelStatus": quickly(self._model_status),
        }

    def service(self, call):
        return self._handlers.get(call.method)

    def stop(self) -> None:
        """Tell those who watch that nothing more is accepted."""
        with self._changed:
            self._changed.notify_all()

    def end(self) -> None:
        """End the calls of those who watch."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def _model_status(self, message: bytes, is_wanted) -> GetModelStatusResponse:
        address = calls.address_of(calls.parsed(GetModelStatusRequest, message).model_spec)
        self._servable.check(address)
        return self._servable.status(self._admission.is_open)

    def _check(self, message: bytes, is_wanted):
        status = self._of(calls.parsed(HealthRequest, message).service)
        if status == SERVICE_UNKNOWN:
            raise RefusedError(grpc.StatusCode.NOT_FOUND, "There is no service of this name.")
        return HealthResponse(status=status)

    def _of(self, service: str) -> int:
        if service not in SERVICES:
            return SERVICE_UNKNOWN
        return SERVING if self._admission.is_open else NOT_SERVING

    def _watch(self, messages, context):
        try:
            service = calls.parsed(HealthRequest, calls.receive(messages, context, lambda: True)).service
            self._enter(context)
        except RefusedError as refusal:
            context.abort(refusal.code, str(refusal))
        while context.is_active() and not self._is_over:
            told = self._of(service)
            yield HealthResponse(status=told)  # a client that does not read it holds this thread alone
            self._wait(context, service, told)

    def _wait(self, context, service, told):
        with self._changed:
            self._changed.wait_for(lambda: self._is_over or not context.is_active() or self._of(service) != told)

    def _enter(self, context):
        with self._changed:
            if self._watching >= WATCHERS:
                raise RefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{WATCHERS} clients watch already.")
            self._watching += 1
        if not context.add_callback(self._leave):  # the call has ended already
            self._leave()

    def _leave(self):
        with self._changed:
            self._watching -= 1
            self._changed.notify_all()
