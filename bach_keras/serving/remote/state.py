"""What the development server says of its own state over gRPC, under any load of predictions and while it stops.

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

# How many calls may ask at once, and how many clients may watch. Each takes a thread, so that none waits for another's
# client; one more is refused.
CALLS = 16
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


class _Places:
    """Counts the calls of a kind, of which there may be so many."""

    def __init__(self, most: int, kind: str):
        self._most, self._kind = most, kind
        self._count, self._lock = 0, threading.Lock()

    def enter(self) -> None:
        with self._lock:
            if self._count >= self._most:
                raise RefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{self._most} clients {self._kind} already.")
            self._count += 1

    def leave(self) -> None:
        with self._lock:
            self._count -= 1


class State(grpc.GenericRpcHandler):
    """The calls that ask for the server's state; ``stop`` and ``end`` tell those who watch it."""

    def __init__(self, servable: Servable, admission: Admission):
        self._servable, self._admission = servable, admission
        # Refusals wait for nothing, so one thread is enough for those of all services.
        self.refusals = ThreadPoolExecutor(1, "refuse")
        self._changed, self._is_over = threading.Condition(), False
        self._asking, self._watching = _Places(CALLS, "ask"), _Places(WATCHERS, "watch")
        pool = ThreadPoolExecutor(CALLS, "state")
        quickly = partial(calls.handler, is_urgent=lambda: True, ended=self._asking.leave, pool=pool)
        watch = partial(self._watch)
        watch.experimental_thread_pool = ThreadPoolExecutor(WATCHERS, "watch")
        watched = grpc.stream_stream_rpc_method_handler(
            watch, response_serializer=lambda message: message.SerializeToString()
        )
        self._handlers = {
            "/grpc.health.v1.Health/Check": (self._asking, quickly(self._check)),
            "/grpc.health.v1.Health/Watch": (self._watching, watched),
            "/tensorflow.serving.ModelService/GetModelStatus": (self._asking, quickly(self._model_status)),
        }

    def service(self, call):
        if call.method not in self._handlers:
            return None
        places, handler = self._handlers[call.method]
        try:
            places.enter()
        except RefusedError as refusal:
            return calls.refused(refusal, self.refusals)
        return handler

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
        if not context.add_callback(self._leave):  # the call has ended already
            self._leave()
        try:
            service = calls.parsed(HealthRequest, calls.receive(messages, context, lambda: True)).service
        except RefusedError as refusal:
            context.abort(refusal.code, str(refusal))
        return self._changes(service, context)

    def _changes(self, service, context):
        while context.is_active() and not self._is_over:
            told = self._of(service)
            yield HealthResponse(status=told)  # a client that does not read it holds this thread alone
            self._wait(context, service, told)

    def _wait(self, context, service, told):
        with self._changed:
            self._changed.wait_for(lambda: self._is_over or not context.is_active() or self._of(service) != told)

    def _leave(self):
        self._watching.leave()
        with self._changed:
            self._changed.notify_all()
