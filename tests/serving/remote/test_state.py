"""What the server says of its own state, and how it ends."""

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
import requests
import tensorflow as tf
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest, ModelVersionStatus
from tensorflow_serving.apis.model_service_pb2_grpc import ModelServiceStub
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

from bach_keras.serving.remote import calls, rpc, server, state
from bach_keras.serving.remote.servable import Servable
from bach_keras.serving.remote.server import Server
from datasets.errors import WorkError

SERVICE = "tensorflow.serving.PredictionService"


@pytest.fixture(scope="module")
def running(export):
    with Server(export) as started:
        yield started


def channel_to(running):
    return grpc.insecure_channel(running.grpc_url.removeprefix("grpc://"))


def health(channel, call="unary_unary", method="Check"):
    return getattr(channel, call)(
        f"/grpc.health.v1.Health/{method}",
        request_serializer=state.HealthRequest.SerializeToString,
        response_deserializer=state.HealthResponse.FromString,
    )


def predict_request():
    request = PredictRequest()
    request.model_spec.name = "bach"
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([b"x"], tf.string))
    return request


def metadata_request():
    request = GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "bach"
    return request


def code_of(call, *given):
    with pytest.raises(grpc.RpcError) as caught:
        call(*given, timeout=30)
    return caught.value.code().name


def wait_until(is_so):
    end = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def test_a_server_that_answers_is_serving(running):
    with channel_to(running) as channel:
        for service in ("", SERVICE):
            assert health(channel)(state.HealthRequest(service=service), timeout=30).status == state.SERVING
        assert code_of(health(channel), state.HealthRequest(service="elsewhere")) == "NOT_FOUND"
        assert code_of(channel.unary_unary("/grpc.health.v1.Health/Check"), b"\xff") == "INVALID_ARGUMENT"
        assert code_of(channel.unary_unary("/grpc.health.v1.Health/List"), b"") == "UNIMPLEMENTED"


def test_health_is_the_message_that_probes_send(running):
    with channel_to(running) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        # Field 1: the service's name, and in the answer the number of SERVING.
        assert check(b"\x0a" + bytes([len(SERVICE)]) + SERVICE.encode(), timeout=30) == b"\x08\x01"


def test_an_unknown_service_can_be_watched_and_watchers_are_counted(running):
    with channel_to(running) as channel:
        watch = health(channel, "unary_stream", "Watch")
        watchers = [watch(state.HealthRequest(service="elsewhere"), timeout=60) for _ in range(state.WATCHERS)]
        assert {next(each).status for each in watchers} == {state.SERVICE_UNKNOWN}
        for _ in range(2):
            refused = code_of(lambda *given, **how: next(watch(*given, **how)), state.HealthRequest())
            assert refused == "RESOURCE_EXHAUSTED"
        watchers[0].cancel()
        wait_until(lambda: running._state._watching._count < state.WATCHERS)
        again = watch(state.HealthRequest(), timeout=60)
        assert next(again).status == state.SERVING
        for each in (*watchers, again):
            each.cancel()
        wait_until(lambda: not running._state._watching._count)


def test_clients_that_send_nothing_keep_nobody_from_asking_for_the_state(running, monkeypatch):
    monkeypatch.setattr(calls, "HASTE", 60)
    stopped, asking = threading.Event(), running._state._asking

    def never():
        stopped.wait(60)
        yield from ()

    with channel_to(running) as channel:
        silent = channel.stream_unary("/grpc.health.v1.Health/Check")
        asked = [silent.future(never(), timeout=60) for _ in range(state.CALLS - 1)]
        wait_until(lambda: asking._count == len(asked))
        assert health(channel)(state.HealthRequest(), timeout=30).status == state.SERVING
        asked.append(silent.future(never(), timeout=60))
        wait_until(lambda: asking._count == len(asked))
        assert code_of(health(channel), state.HealthRequest()) == "RESOURCE_EXHAUSTED"
        for each in asked:
            each.cancel()
        stopped.set()
        wait_until(lambda: not asking._count)


def held(monkeypatch):
    """Let predictions wait; return a semaphore of those that have started, and an event that lets them end."""
    started, ready = threading.Semaphore(0), threading.Event()

    def slow(servable, signature, given):
        started.release()
        assert ready.wait(30)
        return {"label": np.array([b"benign"], object)}

    monkeypatch.setattr(Servable, "predict", slow)
    return started, ready


def test_the_models_state_is_told_over_grpc(running):
    with channel_to(running) as channel:
        request = GetModelStatusRequest()
        request.model_spec.name = "bach"
        (version,) = ModelServiceStub(channel).GetModelStatus(request, timeout=30).model_version_status
        assert (version.version, version.state) == (1, ModelVersionStatus.AVAILABLE)
        request.model_spec.name = "other"
        assert code_of(ModelServiceStub(channel).GetModelStatus, request) == "NOT_FOUND"


def test_a_server_that_stops_says_so_refuses_what_is_new_and_answers_what_it_accepted(export, monkeypatch):
    started, ready = held(monkeypatch)
    with ThreadPoolExecutor(4) as pool, Server(export) as running, channel_to(running) as channel:
        place, service = f"{running.rest_url}/v1/models/bach", PredictionServiceStub(channel)
        rest = pool.submit(requests.post, f"{place}:predict", json={"instances": [""]}, timeout=30)
        # More than there are threads, so that some wait for one.
        grpcs = [service.Predict.future(predict_request(), timeout=30) for _ in range(rpc.CALLS + 2)]
        for _ in range(4):
            assert started.acquire(timeout=30)
        watch = health(channel, "unary_stream", "Watch")(state.HealthRequest(), timeout=30)
        assert next(watch).status == state.SERVING
        wait_until(lambda: running._admission._under_way == len(grpcs) + 1)
        stopping = pool.submit(running.stop)
        assert next(watch).status == state.NOT_SERVING
        assert health(channel)(state.HealthRequest(), timeout=30).status == state.NOT_SERVING
        answer = requests.get(place, timeout=30)
        assert answer.json()["model_version_status"][0]["state"] == "UNLOADING"
        assert answer.headers["Connection"] == "close"
        refused = requests.post(f"{place}:predict", json={"instances": [""]}, timeout=30)
        assert (refused.status_code, refused.json()) == (503, {"error": "The server is stopping."})
        assert code_of(service.Predict, predict_request()) == "UNAVAILABLE"
        ready.set()
        assert rest.result(30).json() == {"predictions": ["benign"]}
        assert {call.result(30).outputs["label"].string_val[0] for call in grpcs} == {b"benign"}
        stopping.result(30)
        assert list(watch) == []
        with pytest.raises(requests.ConnectionError):
            requests.get(place, timeout=30)


def test_what_is_not_answered_in_time_is_counted_and_not_begun(export, monkeypatch):
    started, ready = held(monkeypatch)
    for name, value in {"ANSWER": 0.1, "GRACE": 0.1, "AT_ONCE": 1}.items():
        monkeypatch.setattr(server, name, value)
    with ThreadPoolExecutor(2) as pool:
        running = Server(export).__enter__()
        place = f"{running.rest_url}/v1/models/bach:predict"
        asked = [pool.submit(requests.post, place, json={"instances": [""]}) for _ in range(2)]
        assert started.acquire(timeout=30)
        wait_until(lambda: running._admission._under_way == 2)
        with pytest.raises(WorkError, match=r"2 requests had no answer within 0\.1 s"):
            running.stop()
        ready.set()
        for each in asked:
            with pytest.raises(requests.ConnectionError):
                each.result(30)
    assert not started.acquire(timeout=0.2)


def test_a_call_that_was_cancelled_while_it_waited_is_not_answered(export, monkeypatch):
    started, ready = threading.Semaphore(0), threading.Event()

    def slow(servable, signature, given):
        started.release()
        assert ready.wait(30)
        return {"label": np.array([b"benign"], object)}

    wanted, predict = [], rpc.predict

    def noted(*given):
        wanted.append(given[-1])
        return predict(*given)

    monkeypatch.setattr(Servable, "predict", slow)
    monkeypatch.setattr(rpc, "predict", noted)
    monkeypatch.setattr(server, "AT_ONCE", 1)
    with Server(export) as running, channel_to(running) as channel:
        call = PredictionServiceStub(channel).Predict
        first, second = (call.future(predict_request(), timeout=30) for _ in range(2))
        assert started.acquire(timeout=30)
        wait_until(lambda: len(wanted) == 2)
        for each in (first, second):
            each.cancel()
        wait_until(lambda: not any(is_wanted() for is_wanted in wanted))
        ready.set()
        wait_until(lambda: not running._admission._under_way)
    assert not started.acquire(blocking=False)


@pytest.fixture
def own_handlers():
    numbers = (signal.SIGINT, signal.SIGTERM)
    kept = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, kept, strict=True):
        signal.signal(number, handler)


def test_a_signal_that_another_thread_gets_stops_the_server_too(export, own_handlers):
    running = Server(export)
    ended, helped = threading.Event(), []

    def stop():
        requests.get(f"{running.rest_url}/v1/models/bach", timeout=30)
        time.sleep(0.3)
        # Under load the system gives it to any thread.
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        if not ended.wait(60):
            helped.append(True)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)

    other = threading.Thread(target=stop)
    other.start()
    running.serve()
    ended.set()
    other.join()
    assert not helped


def test_calls_that_are_slow_to_send_give_way_to_others_and_to_the_end(export, monkeypatch):
    monkeypatch.setattr(calls, "HASTE", 0.5)
    monkeypatch.setattr(server, "ANSWER", 30)  # half of what a message may otherwise take
    stopped = threading.Event()

    def never():
        stopped.wait(60)
        yield from ()

    with Server(export) as running, channel_to(running) as channel:
        enter, entered = running._admission.enter, []

        def note():
            number = enter()
            entered.append(number)
            return number

        monkeypatch.setattr(running._admission, "enter", note)
        call = channel.stream_unary(f"/{SERVICE}/Predict")
        silent = [call.future(never(), timeout=60) for _ in range(rpc.CALLS)]
        PredictionServiceStub(channel).GetModelMetadata(metadata_request(), timeout=30)
        silent.append(call.future(never(), timeout=60))
        wait_until(lambda: len(entered) == rpc.CALLS + 2)
        running.stop()
        codes = {each.exception(30).code().name for each in silent}
        stopped.set()
    assert codes == {"CANCELLED"}
