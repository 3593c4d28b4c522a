"""The client against servers whose answers are wrong: each gets a sentence, and none is trusted."""

import contextlib
import gzip
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis.predict_pb2 import PredictResponse

from bach_keras.serving import answers
from bach_keras.serving.images import as_png
from bach_keras.serving.predict import predict_files
from bach_keras.serving.remote.client import Remote
from bach_keras.serving.remote.transports import MAX_ANSWER
from cli import cli
from tests.serving.remote.conftest import SAID

GOOD = {
    "probabilities": [[0.6, 0.2, 0.1, 0.1]],
    "label": ["normal"],
    "carci": [[0.8, 0.2]],
    "norbe": [[0.75, 0.25]],
    "invis": [[0.5, 0.5]],
    "ok": [True],
}
CARD = {"outputs": [json.dumps(SAID)]}
OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"


def sent(value, head=OK):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return head + b"Content-Length: %d\r\n\r\n" % len(data) + data


class Liar:
    """Answers connections by a script of bytes, and of functions that get the socket."""

    def __init__(self):
        self.script = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _run(self):
        with contextlib.suppress(OSError):  # until it is shut down
            while True:
                connection, _ = self._listener.accept()
                with connection, contextlib.suppress(OSError):
                    self._answer(connection)

    def _answer(self, connection):
        asked = b""
        while b"\r\n\r\n" not in asked:
            asked += connection.recv(2**16)
        head, _, body = asked.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        while len(body) < length:
            body += connection.recv(2**16)
        act = self.script.pop(0)
        if callable(act):
            act(connection)
        else:
            connection.sendall(act)


@pytest.fixture
def liar():
    with Liar() as liar:
        liar.script.append(sent(CARD))
        yield liar


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image.png"
    path.write_bytes(as_png(np.full((8, 8, 3), 200, np.uint8)))
    return path


def rows(url, *paths, routing="soft"):
    return list(predict_files(Remote(url, timeout=5, pauses=()), paths, routing))


def test_what_an_export_can_answer_is_trusted(liar, image):
    routed = GOOD | {"probabilities": [[0.75, 0.25, 0, 0]], "invis": [[0, 0]]}
    liar.script += [sent({"outputs": GOOD}), sent(CARD), sent({"outputs": routed | {"more": [1.5]}})]
    (row,) = rows(liar.url, image)
    assert (row["label"], row["probabilities"]["normal"]) == ("normal", pytest.approx(0.6))
    (row,) = rows(liar.url, image, routing="routed")
    assert (row["label"], row["nodes"]["invis"]) == ("normal", None)


DEEP = json.loads("[" * 500 + "]" * 500)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"probabilities": [[float("nan"), 0.2, 0.1, 0.1]]}, "not probabilities"),
        ({"probabilities": [[float("inf"), 0.2, 0.1, 0.1]]}, "not probabilities"),
        ({"probabilities": [[float("nan")] * 4]}, "not probabilities"),
        ({"probabilities": [[1.4, -0.2, -0.1, -0.1]]}, "not probabilities"),
        ({"probabilities": [[10**400, 0, 0, 0]]}, "not probabilities"),
        ({"probabilities": [[0.6, 0.2, 0.1, 0.2]]}, "sum to 1.1"),
        ({"probabilities": [[0, 0, 0, 0]]}, "sum to 0"),
        ({"probabilities": [["0.6", "0.2", "0.1", "0.1"]]}, "1 x 4 numbers"),
        ({"probabilities": [[True, False, False, False]]}, "1 x 4 numbers"),
        ({"probabilities": [[None, 0.5, 0.5, 0]]}, "1 x 4 numbers"),
        ({"probabilities": [[0.6, 0.2, 0.2]]}, "1 x 4 numbers"),
        ({"probabilities": [[0.6, 0.2, 0.1, 0.1]] * 2}, "1 x 4 numbers"),
        ({"probabilities": [0.6, 0.2, 0.1, 0.1]}, "1 x 4 numbers"),
        ({"probabilities": []}, "1 x 4 numbers"),
        ({"probabilities": 3}, "1 x 4 numbers"),
        ({"probabilities": {"normal": 1}}, "1 x 4 numbers"),
        ({"probabilities": DEEP}, "does not answer as TF Serving"),
        ({"carci": [[2, -1]]}, "carci that are not probabilities"),
        ({"norbe": [[0.75, 0.75]]}, "norbe that sum to 1.5"),
        ({"invis": [[0.5, 0.5, 0.5]]}, "invis that are not 1 x 2"),
        ({"label": ["cancer"]}, "not one of this project's"),
        ({"label": ["Normal"]}, "not one of this project's"),
        ({"label": [""]}, "not one of this project's"),
        ({"label": ["normal\n"]}, "not one of this project's"),
        ({"label": ["invasive"]}, "not the likeliest class"),
        ({"label": [0]}, "type str"),
        ({"label": [{"b64": "bm9ybWFs"}]}, "type str"),
        ({"label": ["normal", "normal"]}, "type str"),
        ({"label": "normal"}, "type str"),
        ({"ok": [1]}, "type bool"),
        ({"ok": ["true"]}, "type bool"),
        ({"ok": [None]}, "type bool"),
        ({"ok": []}, "type bool"),
    ],
)
def test_an_answer_that_no_export_gives_is_an_error(liar, image, changed, words):
    liar.script.append(sent({"outputs": GOOD | changed}))
    (row,) = rows(liar.url, image)
    assert set(row) == {"path", "error"}
    assert words in row["error"]
    assert liar.url in row["error"]


@pytest.mark.parametrize("value", [0.5, float("nan"), float("inf"), 1e300, 10**400, -1])
def test_a_specialist_that_was_not_chosen_has_no_numbers(value):
    routed = GOOD | {"probabilities": [[0.75, 0.25, 0, 0]], "invis": [[0, value]]}
    found = answers.as_arrays(routed, 1, "routed", "It")
    (fault,) = found["fault"]
    assert fault == (
        "It gives answers that an export of this project cannot give: invis that are not 0, though it was not chosen."
    )
    assert found["invis"].tolist() == [[0, 0]]


@pytest.mark.parametrize("name", GOOD)
def test_an_answer_that_lacks_an_output_is_an_error(liar, image, name):
    liar.script.append(sent({"outputs": {key: value for key, value in GOOD.items() if key != name}}))
    (row,) = rows(liar.url, image)
    assert "an export of this project" in row["error"]


def test_one_impossible_answer_leaves_its_neighbours_theirs(liar, image, tmp_path):
    for name in ("image2.png", "image3.png"):
        (tmp_path / name).write_bytes(image.read_bytes())
    both = {name: value * 3 for name, value in GOOD.items()}
    both["label"] = ["normal", "cancer", "normal"]
    both["ok"] = [True, True, False]
    liar.script.append(sent({"outputs": both}))
    first, second, third = rows(liar.url, tmp_path)
    assert first["label"] == "normal"
    assert "not one of this project's" in second["error"]
    assert "could not decode" in third["error"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (sent(b"<html>it works</html>"), "does not answer as TF Serving"),
        (sent(b""), "does not answer as TF Serving"),
        (sent(b"\xff\xfe\x00"), "does not answer as TF Serving"),
        (sent(b"[" * 100_000), "does not answer as TF Serving"),
        (sent(b"9" * 100_000), "does not answer as TF Serving"),
        (sent({"error": "the model sleeps"}), "the model sleeps"),
        (sent({"outputs": None}), "an export of this project"),
        (sent(b'{"outputs": 1, "outputs": 2}'), "does not answer as TF Serving"),
        (sent({"outputs": GOOD | {"carci": [[0.8], [0.1, 0.1]]}}), "does not answer as TF Serving"),
        (sent({}, b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/elsewhere\r\n"), "redirects (302"),
        (sent({}, b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /v1\r\n"), "redirects (307"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "failed with 204"),
        (sent({"error": {"deep": 1}}, b"HTTP/1.1 500 Oh\x1b[31m\r\n"), "failed with 500: Oh"),
        (sent({"error": "a\u202e\x1b[2J" + "b" * 5000}, b"HTTP/1.1 400 Bad\r\n"), "refused the request: a"),
        (sent(gzip.compress(bytes(10**7)), OK + b"Content-Encoding: gzip\r\n"), "sends a compressed answer"),
        (OK + b"Content-Length: 100\r\n\r\n{}", "or its answer is incomplete"),
        (OK + b"Content-Length: many\r\n\r\n{}", ""),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", "or its answer is incomplete"),
        (b"SSH-2.0-OpenSSH\r\n", "does not answer"),
        (b"", "does not answer"),
        (OK + b"X: y\r\n" * 5000 + b"\r\n", "does not answer"),
    ],
)
def test_an_answer_that_is_not_one_gets_one_sentence(liar, image, answer, words):
    liar.script.append(answer)
    (row,) = rows(liar.url, image)
    assert set(row) == {"path", "error"}
    assert words in row["error"]
    assert len(row["error"]) < 600
    assert row["error"].isprintable()


def test_an_endless_answer_is_not_read_to_its_end(liar, image):
    def endless(connection):
        connection.sendall(OK + b"\r\n")
        while True:
            connection.sendall(b" " * 2**20)

    liar.script.append(endless)
    (row,) = rows(liar.url, image)
    assert f"more than {MAX_ANSWER} bytes" in row["error"]


@pytest.mark.parametrize("beginning", [b"", b"HTTP/1.1 200 OK\r\nX: ", OK + b"\r\n"], ids=["silent", "head", "body"])
def test_the_time_out_is_of_the_whole_request(liar, image, beginning):
    def dribble(connection):
        connection.sendall(beginning)
        for _ in range(40):
            time.sleep(0.05)
            if beginning:
                connection.sendall(b" ")

    liar.script.append(dribble)
    remote = Remote(liar.url, timeout=0.8)
    start = time.monotonic()
    (row,) = predict_files(remote, [image])
    assert time.monotonic() - start < 1.8
    assert "longer than 0.8 s" in row["error"]


@pytest.mark.parametrize(
    "card",
    [
        "null",
        "[]",
        "3",
        '"phantom"',
        "{}",
        '{"configs": "phantom"}',
        '{"configs": null}',
        '{"configs": [1]}',
        '{"configs": {"bach": 1}}',
        '{"configs": ["bach"], "configs": ["phantom"]}',
        "[" * 100_000,
        "{",
    ],
)
def test_a_card_that_is_not_one_counts_as_no_card(liar, image, card):
    liar.script[:] = [sent({"outputs": [card]}), sent({"outputs": GOOD})]
    result = CliRunner().invoke(cli, ["predict", "--server", liar.url, "--format", "json", str(image)])
    assert "does not say what its model was trained on" in result.stderr
    assert result.exit_code == 0


@pytest.mark.parametrize("others", [{}, SAID | {"trained_on": []}, SAID | {"image_size": "32"}])
def test_a_card_that_names_phantoms_warns_of_them_whatever_else_it_says(liar, image, others):
    liar.script[:] = [sent({"outputs": [json.dumps(others | {"configs": ["phantom"]})]}), sent({"outputs": GOOD})]
    result = CliRunner().invoke(cli, ["predict", "--server", liar.url, "--format", "json", str(image)])
    assert "learned from synthetic phantom images" in result.stderr
    assert result.exit_code == 0


def test_predict_warns_once_of_a_served_export_that_is_older(liar, image):
    liar.script.append(sent({"outputs": GOOD}))
    result = CliRunner().invoke(cli, ["predict", "--server", liar.url, "--format", "json", str(image)])
    assert result.exit_code == 0
    assert result.stderr.count("WARNING: this export decodes JPEG") == 1
    assert json.loads(result.stdout)["label"] == "normal"


@pytest.mark.parametrize("card", [[], [3], [None], [["x"]], [[[1], 2]], {}, "text", None, 3])
def test_a_card_of_another_type_is_no_card_or_no_answer(liar, image, card):
    liar.script[:] = [sent({"outputs": card}), sent({"outputs": GOOD})]
    result = CliRunner().invoke(cli, ["predict", "--server", liar.url, "--format", "json", str(image)])
    assert result.exit_code in (0, 2)
    assert "Traceback" not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)


def test_a_model_of_other_classes_is_refused(liar):
    liar.script[:] = [
        sent({"outputs": ['{"configs": ["bach"], "classes": ["benign", "normal", "insitu", "invasive"]}']})
    ]
    with pytest.raises(OSError, match="a model card with the classes"):
        Remote(liar.url)


@contextlib.contextmanager
def grpc_liar(response):
    """Serve the card, and the same response to all other requests."""
    card = PredictResponse()
    card.outputs["card"].CopyFrom(tf.make_tensor_proto([json.dumps(SAID)], tf.string))
    replies = [card.SerializeToString(), response]

    def handle(message, context):
        return replies.pop(0)

    methods = {"Predict": grpc.unary_unary_rpc_method_handler(handle)}
    handler = grpc.method_handlers_generic_handler("tensorflow.serving.PredictionService", methods)
    server = grpc.server(ThreadPoolExecutor(1), [handler])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"grpc://127.0.0.1:{port}"
    server.stop(0).wait()


def response(**changed):
    """Return a good PredictResponse, with other tensors put in."""
    types = {"label": tf.string, "ok": tf.bool}
    answer = PredictResponse()
    for name, value in GOOD.items():
        answer.outputs[name].CopyFrom(tf.make_tensor_proto(value, types.get(name, tf.float32)))
    for name, tensor in changed.items():
        answer.outputs[name].CopyFrom(tensor)
    return answer.SerializeToString()


def tensor(dtype, *sides, **values):
    made = TensorProto(dtype=dtype.as_datatype_enum)
    made.tensor_shape.SetInParent()
    for side in sides:
        made.tensor_shape.dim.add(size=side)
    for name, value in values.items():
        if isinstance(value, bytes):
            setattr(made, name, value)
        else:
            getattr(made, name).extend(value)
    return made


def _of_unknown_type():
    made = tensor(tf.float32, 1, 4, float_val=[0.25] * 4)
    made.dtype = 999
    return made


def _of_unknown_rank():
    made = tensor(tf.float32, float_val=[0.25] * 4)
    made.tensor_shape.unknown_rank = True
    return made


def test_a_good_grpc_answer_is_trusted(image):
    with grpc_liar(response(more=tensor(tf.resource, 1))) as url:
        (row,) = rows(url, image)
    assert row["label"] == "normal"


@pytest.mark.parametrize(
    "answer",
    [
        response(probabilities=tensor(tf.float32, 1, 4, float_val=[0.25])),
        response(probabilities=tensor(tf.float32, 1, 4, tensor_content=bytes(7))),
        response(probabilities=tensor(tf.float32, 2**40, 4, float_val=[0.25])),
        response(probabilities=tensor(tf.float32, 2**62, 2**62, float_val=[0.25])),
        response(probabilities=tensor(tf.float32, -1, 4, float_val=[0.25] * 4)),
        response(probabilities=tensor(tf.float32, 4, float_val=[0.6, 0.2, 0.1, 0.1])),
        response(probabilities=tensor(tf.float32, 1, 4, float_val=[float("nan"), 0.4, 0.3, 0.3])),
        response(probabilities=tensor(tf.int32, 1, 4, int_val=[1, 0, 0, 0])),
        response(probabilities=tensor(tf.string, 1, 4, string_val=[b"1", b"0", b"0", b"0"])),
        response(probabilities=tensor(tf.resource, 1, 4)),
        response(probabilities=_of_unknown_type()),
        response(probabilities=_of_unknown_rank()),
        response(label=tensor(tf.string, 1, string_val=[b"cancer"])),
        response(label=tensor(tf.string, 1, string_val=[b"\xff"])),
        response(label=tensor(tf.string, 1, tensor_content=b"normal")),
        response(label=tensor(tf.string, string_val=[b"normal"])),
        response(ok=tensor(tf.float32, 1, float_val=[1.0])),
        response(ok=tensor(tf.bool, 1)),
        b"",
        b"\xff\xff\xff",
        PredictResponse(outputs={"ok": tensor(tf.bool, 1, bool_val=[True])}).SerializeToString(),
    ],
)
def test_a_grpc_answer_that_no_export_gives_is_an_error(image, answer):
    with grpc_liar(answer) as url:
        (row,) = rows(url, image)
    assert set(row) == {"path", "error"}
    assert url in row["error"]


def test_a_grpc_answer_that_is_too_large_is_refused(image):
    with grpc_liar(response(more=tensor(tf.string, 1, string_val=[bytes(MAX_ANSWER)]))) as url:
        (row,) = rows(url, image)
    assert "larger than max" in row["error"]
