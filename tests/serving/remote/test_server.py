"""The development server, spoken to as any client of TF Serving would, without ours."""

import base64
import gc
import http.client
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
import requests
import tensorflow as tf
from tensorflow.core.framework.types_pb2 import DataType
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest, SignatureDefMap
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

from bach_keras.serving.address import Address
from bach_keras.serving.images import as_png
from bach_keras.serving.remote import calls, rest, rpc
from bach_keras.serving.remote.client import Remote
from bach_keras.serving.remote.rest import MAX_BODY
from bach_keras.serving.remote.servable import MAX_IMAGES, Servable
from bach_keras.serving.remote.server import Server
from datasets import phantom
from datasets.errors import UserError
from datasets.labels import CLASSES

TISSUE = np.stack([phantom.draw(label, 903, 0)[::3, ::3] for label in CLASSES])
FILES = [as_png(image) for image in TISSUE]
B64 = [{"b64": base64.b64encode(file).decode()} for file in FILES]
PREDICT = "/v1/models/bach:predict"


@pytest.fixture(scope="module")
def server(export):
    with Server(export) as started:
        yield started


@pytest.fixture(scope="module")
def service(server):
    with grpc.insecure_channel(server.grpc_url.removeprefix("grpc://")) as channel:
        yield PredictionServiceStub(channel)


@pytest.fixture(scope="module")
def expected(export):
    return {name: value.numpy() for name, value in export.encoded(FILES).items()}


def post(server, body, path=PREDICT):
    data = body if isinstance(body, bytes) else json.dumps(body)
    response = requests.post(server.rest_url + path, data=data, timeout=30)
    assert response.headers["Content-Type"] == "application/json"
    return response.status_code, response.json()


def predict_request(name="bach", signature="", values=FILES):
    request = PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = name, signature
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto(values, tf.string))
    return request


@pytest.mark.parametrize("instances", [B64, [{"image_bytes": value} for value in B64]], ids=["values", "named"])
def test_rows(server, expected, instances):
    code, answer = post(server, {"instances": instances})
    assert code == 200
    assert [row["label"].encode() for row in answer["predictions"]] == expected["label"].tolist()
    for name in ("probabilities", "carci", "norbe", "invis"):
        np.testing.assert_allclose([row[name] for row in answer["predictions"]], expected[name], atol=1e-6)


@pytest.mark.parametrize("inputs", [B64, {"image_bytes": B64}], ids=["values", "named"])
@pytest.mark.parametrize("place", ["", "/versions/1", "/labels/stable"])
def test_columns(server, expected, inputs, place):
    code, answer = post(server, {"inputs": inputs}, f"/v1/models/bach{place}:predict")
    assert code == 200
    assert set(answer["outputs"]) == set(expected)
    np.testing.assert_allclose(answer["outputs"]["probabilities"], expected["probabilities"], atol=1e-6)


def test_pixels(server, expected):
    code, answer = post(server, {"signature_name": "images", "instances": TISSUE.tolist()})
    assert code == 200
    np.testing.assert_allclose(
        [row["probabilities"] for row in answer["predictions"]], expected["probabilities"], atol=1e-5
    )


def test_a_broken_image_and_a_text_beside_a_good_one(server, expected):
    broken = {"b64": base64.b64encode(FILES[0][:300]).decode()}
    code, answer = post(server, {"inputs": [broken, "half a character \ud800", B64[1]]})
    assert code == 200
    assert answer["outputs"]["ok"] == [False, False, True]
    assert answer["outputs"]["label"] == ["", "", expected["label"][1].decode()]
    np.testing.assert_allclose(answer["outputs"]["probabilities"][2], expected["probabilities"][1], atol=1e-5)


def test_the_card_travels_with_the_model(server, export):
    code, answer = post(server, {"signature_name": "card", "instances": [""]})
    assert code == 200
    assert json.loads(answer["predictions"][0]) == export.card


def test_status_and_metadata(server):
    state = requests.get(f"{server.rest_url}/v1/models/bach", timeout=30).json()
    (version,) = state["model_version_status"]
    assert version == {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    metadata = requests.get(f"{server.rest_url}/v1/models/bach/versions/1/metadata", timeout=30).json()
    assert metadata["model_spec"] == {"name": "bach", "signature_name": "", "version": "1"}
    signatures = metadata["metadata"]["signature_def"]["signature_def"]
    assert signatures["serving_default"]["inputs"]["image_bytes"]["dtype"] == "DT_STRING"
    assert set(signatures["routed"]["outputs"]) == {"probabilities", "label", "carci", "norbe", "invis", "ok"}


@pytest.mark.parametrize(
    ("body", "code", "sentence"),
    [
        (b"", 400, "JSON Parse error"),
        (b"{", 400, "JSON Parse error"),
        (b"[" * 100_000, 400, "JSON Parse error"),
        (b"\xff\xfe", 400, "JSON Parse error"),
        (b"[]", 400, "must be an object"),
        ({}, 400, "Missing 'inputs' or 'instances'"),
        ({"inputs": B64, "instances": B64}, 400, "or both"),
        ({"instances": []}, 400, "No values"),
        ({"instances": "text"}, 400, "list/array"),
        ({"instances": [3]}, 400, "expected type: string"),
        ({"instances": [["a"]]}, 400, "expected type: string"),
        ({"instances": [{"b64": "?"}]}, 400, "base64"),
        ({"instances": [{"picture": "x"}]}, 400, "image_bytes"),
        ({"inputs": []}, 400, f"0 images; a request may hold 1 to {MAX_IMAGES}"),
        ({"inputs": "text"}, 400, "shape"),
        ({"inputs": {"picture": ["x"]}}, 400, "image_bytes"),
        ({"instances": B64[:1] * 1000}, 400, f"1000 images; a request may hold 1 to {MAX_IMAGES}"),
        ({"signature_name": "train", "instances": B64}, 400, '"train" not found'),
        ({"signature_name": 3, "instances": B64}, 400, "signature_name"),
        ({"signature_name": "images", "instances": ["text"]}, 400, "not an array of uint8"),
        ({"signature_name": "images", "instances": [[[[0, 0, 256]]]]}, 400, "not an array of uint8"),
        ({"signature_name": "images", "instances": [[[[0, 0, 0.5]]]]}, 400, "not an array of uint8"),
        ({"signature_name": "images", "instances": [[[[0, 0, 0]], [[0]]]]}, 400, "not an array of uint8"),
        ({"signature_name": "images", "instances": [[[[0, 0, 0, 255]]]]}, 400, "shape"),
        ({"signature_name": "images", "instances": [[[[True, 0, 0]]]]}, 400, "not an array of uint8"),
        ({"signature_name": "images", "instances": [[[[2**70, 0, -1]]]]}, 400, "not an array of uint8"),
        ({"signature_name": "images", "instances": [[[[float("nan"), 0, 0]]]]}, 400, "not an array of uint8"),
        ({"signature_name": "images", "instances": [[[[[0, 0, 0]]]]]}, 400, "not an array of uint8"),
        ({"signature_name": "images", "instances": [[]]}, 400, "not an array of uint8"),
        ({"signature_name": "images", "inputs": "text"}, 400, "not an array of uint8"),
        ({"signature_name": "images", "instances": ["long" * 10_000, "", []]}, 400, "not an array of uint8"),
        ({"signature_name": None, "instances": [""]}, 400, "signature_name"),
        ({"instances": [float("nan")]}, 400, "expected type: string"),
        ({"instances": [{"b64": "YQ"}]}, 400, "base64"),
        ({"instances": [{"b64": "YQ=\n="}]}, 400, "base64"),
        ({"instances": [{"b64": "é"}]}, 400, "base64"),
        ({"instances": [{"b64": 3}]}, 400, "expected type: string"),
        ({"instances": [{"b64": "YQ==", "more": 1}]}, 400, "image_bytes"),
        ({"instances": [{"image_bytes": ["a"]}]}, 400, "expected type: string"),
        ({"instances": {"image_bytes": "a"}}, 400, "list/array"),
        ({"inputs": {"image_bytes": {"b64": "YQ=="}}}, 400, "shape"),
        (b'{"instances": ["a"], "instances": ["b"]}', 400, "'instances' twice"),
        (b'{"instances": [' + b"9" * 5000 + b"]}", 400, "JSON Parse error"),
        (b'{"instances": [1e999]}', 400, "expected type: string"),
        (b'{"instances": ["\xff"]}', 400, "JSON Parse error"),
        ('{"instances": ["a"]}'.encode("utf-16"), 400, "JSON Parse error"),
        (b'{"instances": ' + b"[" * 900 + b"]" * 900 + b"}", 400, "type list"),
    ],
)
def test_a_bad_request_says_what_is_wrong(server, body, code, sentence):
    got, answer = post(server, body)
    assert (got, list(answer)) == (code, ["error"])
    assert sentence in answer["error"]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v1/models/other:predict", 404),
        ("/v1/models/bach/versions/7:predict", 404),
        (f"/v1/models/bach/versions/{'7' * 5000}:predict", 400),
        ("/v1/models/bach/labels/canary:predict", 400),
        ("/v1/models/bach:classify", 400),
        ("/v1/models/bach", 400),
        ("/v1/models/%ff:predict", 400),
        ("/v1/models/bach/versions/1/labels/stable:predict", 400),
        ("/v1/models/bach/versions/-1:predict", 400),
        ("/elsewhere:predict", 404),
        ("/elsewhere", 404),
    ],
)
def test_a_wrong_place(server, path, code):
    got, answer = post(server, {"instances": B64[:1]}, path)
    assert got == code
    assert "error" in answer


def test_a_target_is_read_as_the_standard_says(server):
    for target in ("/v1/models/bach?verbose=1", "/v1/models/b%61ch", "http://elsewhere/v1/models/bach"):
        connection = http.client.HTTPConnection(server.rest_url.removeprefix("http://"), timeout=30)
        connection.request("GET", target)
        assert connection.getresponse().status == 200
        connection.close()
    connection = http.client.HTTPConnection(server.rest_url.removeprefix("http://"), timeout=30)
    connection.request("GET", "/v1/models/%zz")
    assert connection.getresponse().status == 400
    connection.close()


def test_a_target_that_is_half_an_address_is_refused():
    code, answer = rest.answer(None, None, "GET", "http://[::1/v1/models/bach", b"")
    assert (code, answer) == (404, {"error": "Malformed request: GET http://[::1/v1/models/bach"})


def test_what_the_graph_refuses_is_told_without_names_of_its_nodes(server):
    code, answer = post(server, {"signature_name": "images", "instances": [[[[0, 0, 0]] * 51]]})
    assert code == 400
    assert answer["error"].endswith("50 times as long as wide, and not:] [1 51]")


def test_chunked_and_empty_signature_names_are_taken(server):
    parts = iter([b'{"signature_name": "", "inst', b'ances": [""]}'])
    response = requests.post(server.rest_url + PREDICT, data=parts, timeout=30)
    assert [row["ok"] for row in response.json()["predictions"]] == [False]


def test_json_of_more_values_than_memory_is_for_is_refused_unread(server, monkeypatch):
    monkeypatch.setattr(rest, "MAX_VALUES", 100)
    code, answer = post(server, {"instances": [{}] * 60})
    assert (code, "send images as files" in answer["error"]) == (400, True)


def test_rest_without_memory_says_so(server, monkeypatch):
    def full(*given):
        raise MemoryError

    monkeypatch.setattr(Servable, "predict", full)
    code, answer = post(server, {"instances": B64[:1]})
    assert (code, "no memory" in answer["error"]) == (429, True)


@pytest.mark.parametrize("name", ["a/b:c %41", "ラベル"])
def test_a_model_of_any_readable_name_is_found(export, name):
    with Server(export, name) as started:
        place = Address(name).path
        assert started.place == f"{place}/versions/1"
        for url in (started.rest_url, started.grpc_url):
            assert Remote(url + place).card == export.card


@pytest.mark.parametrize("name", ["", "a\nb", "\x1b[2J", "\udcff"])
def test_a_name_that_no_request_can_contain_is_refused(export, name):
    with pytest.raises(ValueError, match="--name"):
        Server(export, name)


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
def test_ipv6(export):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no loopback of IPv6")
    with Server(export, host="::1") as started:
        for url in (started.rest_url, started.grpc_url):
            assert "[::1]:" in url
            assert Remote(url).card == export.card


@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1"])
def test_a_host_that_is_not_ours(export, host):
    with pytest.raises(UserError, match=f"{host} is not an address of this machine: choose another --host"):
        Server(export, host=host)


@pytest.mark.parametrize(
    ("length", "code"), [(str(MAX_BODY + 1), 413), (None, 411), ("-1", 411), ("²", 411), ("9" * 5000, 411)]
)
def test_a_body_too_large_or_of_no_length_is_not_read(server, length, code):
    connection = http.client.HTTPConnection(server.rest_url.removeprefix("http://"), timeout=30)
    connection.putrequest("POST", PREDICT)
    if length:
        connection.putheader("Content-Length", length)
    connection.endheaders()
    response = connection.getresponse()
    assert response.status == code
    assert "error" in json.loads(response.read())
    connection.close()


def test_grpc_answers_with_the_same(service, expected):
    response = service.Predict(predict_request(), timeout=30)
    assert (response.model_spec.name, response.model_spec.version.value) == ("bach", 1)
    assert set(response.outputs) == set(expected)
    np.testing.assert_allclose(tf.make_ndarray(response.outputs["probabilities"]), expected["probabilities"], atol=1e-6)
    request = predict_request(signature="routed")
    request.output_filter.append("label")
    assert list(service.Predict(request, timeout=30).outputs) == ["label"]


def test_grpc_metadata(service):
    request = GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "bach"
    response = service.GetModelMetadata(request, timeout=30)
    signatures = SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert {"serving_default", "routed", "images"} <= set(signatures.signature_def)
    request.metadata_field[:] = ["weights"]
    with pytest.raises(grpc.RpcError) as caught:
        service.GetModelMetadata(request, timeout=30)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def _filtered():
    request = predict_request()
    request.output_filter.append("colour")
    return request


def _more_than_its_shape():
    request = predict_request()
    request.inputs["image_bytes"].tensor_shape.dim[0].size = 3
    return request


@pytest.mark.parametrize(
    ("request_", "code", "sentence"),
    [
        (predict_request(name="other"), "NOT_FOUND", "other"),
        (predict_request(signature="train"), "INVALID_ARGUMENT", "train"),
        (predict_request(values=[]), "INVALID_ARGUMENT", "0 images"),
        (predict_request(values=[b"x"] * 1000), "INVALID_ARGUMENT", "1000 images"),
        (predict_request(signature="images"), "INVALID_ARGUMENT", "images"),
        (_filtered(), "INVALID_ARGUMENT", "colour"),
        (_more_than_its_shape(), "INVALID_ARGUMENT", "not a complete tensor"),
    ],
    ids=["name", "signature", "none", "many", "inputs", "filter", "torn"],
)
def test_a_bad_grpc_request_says_what_is_wrong(service, request_, code, sentence):
    with pytest.raises(grpc.RpcError) as caught:
        service.Predict(request_, timeout=30)
    assert caught.value.code().name == code
    assert sentence in caught.value.details()


def _changed(signature="", **fields):
    """A request whose one tensor has some fields of another value."""
    request = predict_request(signature=signature, values=FILES[:1])
    if signature == "images":
        request.inputs["images"].CopyFrom(tf.make_tensor_proto(TISSUE[:1]))
        del request.inputs["image_bytes"]
        request.inputs["images"].tensor_content = b""
    (tensor,) = request.inputs.values()
    for field, value in fields.items():
        if field == "sides":
            tensor.tensor_shape.ClearField("dim")
            for side in value:
                tensor.tensor_shape.dim.add(size=side)
        elif field == "unknown_rank":
            tensor.tensor_shape.unknown_rank = value
        elif isinstance(value, list):
            tensor.ClearField(field)
            getattr(tensor, field).extend(value)
        else:
            setattr(tensor, field, value)
    return request


@pytest.mark.parametrize("dtype", [value for value in DataType.values() if value != tf.string.as_datatype_enum] + [999])
def test_every_other_type_is_refused(service, dtype):
    with pytest.raises(grpc.RpcError) as caught:
        service.Predict(_changed(dtype=dtype), timeout=30)
    assert caught.value.code().name == "INVALID_ARGUMENT"
    assert "type" in caught.value.details()


def test_a_refused_call_gives_its_stream_back_before_garbage_is_collected(service):
    gc.disable()
    try:
        for _ in range(rpc.MOST + 5):
            with pytest.raises(grpc.RpcError) as caught:
                service.Predict(_changed(dtype=1), timeout=30)
            assert caught.value.code().name == "INVALID_ARGUMENT"
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (_changed(sides=[3]), "1 values for the shape [3]"),
        (_changed(string_val=[]), "0 values for the shape [1]"),
        (_changed(string_val=[], tensor_content=b"a"), "not a complete tensor"),
        (_changed(tensor_content=b"a"), "2 values for the shape [1]"),
        (_changed(sides=[]), "shape"),
        (_changed(sides=[1, 1]), "shape"),
        (_changed(sides=[1] * 5000), "shape"),
        (_changed(sides=[1, 0, 2**62, 2**62]), "shape"),
        (_changed(unknown_rank=True), "no shape"),
        (_changed("images", int_val=[1, 2, 300], sides=[1, 1, 1, 3]), "not a complete tensor"),
        (_changed("images", int_val=[1, 2, -1], sides=[1, 1, 1, 3]), "not a complete tensor"),
        (_changed("images", int_val=[7], sides=[1, 4, 4, 3]), "1 values for the shape [1, 4, 4, 3]"),
        (_changed("images", tensor_content=bytes(7), sides=[1, 4, 4, 3]), "7 values for the shape [1, 4, 4, 3]"),
        (_changed("images", sides=[1, 0, 0, 3]), "may have 1 to"),
        (_changed("images", dtype=tf.quint8.as_datatype_enum, tensor_content=bytes(3), sides=[1, 1, 1, 3]), "quint8"),
    ],
)
def test_a_tensor_that_contradicts_itself_is_refused(service, request_, sentence):
    with pytest.raises(grpc.RpcError) as caught:
        service.Predict(request_, timeout=30)
    assert caught.value.code().name == "INVALID_ARGUMENT"
    assert sentence in caught.value.details()


def _called(name="bach", **version):
    spec = ModelSpec(name=name, version_label=version.get("label"))
    if "number" in version:
        spec.version.value = version["number"]
    return spec


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        (ModelSpec(), "INVALID_ARGUMENT"),
        (_called("x" * 10_000_000), "NOT_FOUND"),
        (_called("\u3042" * 5000 + "\n\0"), "NOT_FOUND"),
        (_called(number=0), "NOT_FOUND"),
        (_called(number=-1), "NOT_FOUND"),
        (_called(number=2**63 - 1), "NOT_FOUND"),
        (_called(label=""), "INVALID_ARGUMENT"),
        (_called(label="canary"), "INVALID_ARGUMENT"),
    ],
    ids=["none", "long", "odd", "0", "-1", "large", "no label", "label"],
)
def test_both_calls_refuse_a_model_that_is_not_served(server, spec, code):
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(server.grpc_url.removeprefix("grpc://"), options=options) as channel:
        wide, request = PredictionServiceStub(channel), predict_request(values=FILES[:1])
        request.model_spec.CopyFrom(spec)
        with pytest.raises(grpc.RpcError) as caught:
            wide.Predict(request, timeout=30)
        assert caught.value.code().name == code
        with pytest.raises(grpc.RpcError) as caught:
            wide.GetModelMetadata(
                GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"]), timeout=30
            )
        assert caught.value.code().name in (code, "INVALID_ARGUMENT")


@pytest.mark.parametrize("call", ["Predict", "GetModelMetadata"])
@pytest.mark.parametrize("message", [b"\xff\xff", b"\x0a\x03\x0a\x01\xff", b""])
def test_bytes_that_are_not_a_message_are_refused(server, call, message):
    with grpc.insecure_channel(server.grpc_url.removeprefix("grpc://")) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(f"/tensorflow.serving.PredictionService/{call}")(message, timeout=30)
        assert caught.value.code().name == "INVALID_ARGUMENT"
        with pytest.raises(grpc.RpcError) as caught:
            channel.stream_unary(f"/tensorflow.serving.PredictionService/{call}")(iter([]), timeout=30)
        assert caught.value.code().name == "INVALID_ARGUMENT"


def test_compressed_messages_are_not_unpacked(server):
    target = server.grpc_url.removeprefix("grpc://")
    with grpc.insecure_channel(target, compression=grpc.Compression.Gzip) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            PredictionServiceStub(channel).Predict(predict_request(values=[bytes(10_000)]), timeout=30)
        assert caught.value.code().name == "UNIMPLEMENTED"
        assert "gzip" in caught.value.details()


def test_calls_whose_message_does_not_come_hold_nobody_for_long(server, service, monkeypatch):
    monkeypatch.setattr(calls, "RECEIVE", 1.0)
    stopped = threading.Event()

    def never():
        stopped.wait(30)
        yield from ()

    with grpc.insecure_channel(server.grpc_url.removeprefix("grpc://")) as channel:
        call = channel.stream_unary("/tensorflow.serving.PredictionService/Predict")
        silent = [call.future(never(), timeout=30) for _ in range(rpc.CALLS)]
        service.Predict(predict_request(values=FILES[:1]), timeout=20)
        codes = {each.exception(30).code().name for each in silent}
        stopped.set()
    assert codes == {"CANCELLED"}


def _claimed(name, dtype, *sides):
    """A request of a few bytes that says it is large: what is missing is filled up with the last value."""
    request = predict_request(signature=name, values=[b"x"])
    tensor = request.inputs["image_bytes"]
    tensor.dtype = dtype.as_datatype_enum
    del tensor.tensor_shape.dim[:]
    for side in sides:
        tensor.tensor_shape.dim.add(size=side)
    return request


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (_claimed("routed", tf.string, 20_000_000), "20000000 images"),
        (_claimed("routed", tf.string, 32, 20_000_000), "more than a request may hold"),
        (_claimed("routed", tf.string, 32, 2**62, 2**62), "more than a request may hold"),
        (_claimed("routed", tf.string, 2, -1), "more than a request may hold"),
        (_claimed("images", tf.uint8, 1, 20_000, 20_000, 3), "more than a request may hold"),
        (_claimed("images", tf.float64, 1, 10_000, 10_000, 1), "more than a request may hold"),
    ],
)
def test_a_claimed_size_is_refused_before_it_is_filled(service, monkeypatch, request_, sentence):
    monkeypatch.setattr(tf, "make_ndarray", lambda tensor: pytest.fail("it was filled"))
    with pytest.raises(grpc.RpcError) as caught:
        service.Predict(request_, timeout=30)
    assert caught.value.code().name == "INVALID_ARGUMENT"
    assert sentence in caught.value.details()


def test_grpc_without_memory_says_so(service, monkeypatch):
    def full(tensor):
        raise MemoryError

    monkeypatch.setattr(tf, "make_ndarray", full)
    with pytest.raises(grpc.RpcError) as caught:
        service.Predict(predict_request(), timeout=30)
    assert caught.value.code().name == "RESOURCE_EXHAUSTED"
    assert "no memory" in caught.value.details()


def test_a_port_that_is_taken(export):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"127.0.0.1:{port}: the port is in use.* --port"):
            Server(export, port=port)
        with pytest.raises(UserError, match=f"127.0.0.1:{port}: the port is in use.* --grpc-port"):
            Server(export, grpc_port=port)


def test_requests_under_way_end_before_the_server_does(export, monkeypatch):
    started, ended = threading.Event(), []

    def slow(servable, signature, given):
        started.set()
        time.sleep(0.5)
        ended.append(signature)
        return {"label": np.array([b"benign"], object)}

    monkeypatch.setattr(Servable, "predict", slow)
    with ThreadPoolExecutor(1) as client:
        with Server(export) as server:
            answer = client.submit(post, server, {"instances": B64[:1]})
            assert started.wait(30)
        assert ended == ["serving_default"]
        assert answer.result(30) == (200, {"predictions": ["benign"]})


def test_a_server_whose_lines_nobody_reads_any_more_stops(export, monkeypatch):
    def gone(line):
        raise BrokenPipeError

    with Server(export) as server:
        monkeypatch.setattr(logging.getLogger("bach_keras.serving.remote.server"), "info", gone)
    assert not server._thread.is_alive()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_a_signal_stops_it(exported, number):
    command = [sys.executable, "cli.py", "serve", "--model", str(exported), "--port", "0", "--grpc-port", "0"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=-1, stderr=-1, text=True, env=environment) as process:
        line = process.stdout.readline()
        assert "/v1/models/bach/versions/1" in line
        url = line.split(" at ")[1].split()[0]
        assert url.startswith("http://127.0.0.1:")
        assert requests.get(f"{url}/v1/models/bach", timeout=30).ok
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "phantom" in errors
    assert "Traceback" not in errors
