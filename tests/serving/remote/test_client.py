import contextlib
import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer

import grpc
import numpy as np
import pytest
from click.testing import CliRunner

from bach_keras.serving.images import as_png
from bach_keras.serving.predict import predict_files
from bach_keras.serving.remote import client
from bach_keras.serving.remote.client import Remote
from bach_keras.serving.remote.transports import NotTakenError, ServerError, UnavailableError
from cli import cli
from datasets import phantom
from tests.serving.remote.conftest import SAID


@pytest.fixture
def no_pauses(monkeypatch):
    """Return the pauses that would have been made."""
    pauses = []
    monkeypatch.setattr(client.time, "sleep", pauses.append)
    return pauses


def run(*words):
    return CliRunner().invoke(cli, [str(word) for word in words])


@pytest.mark.parametrize("routing", ["soft", "routed"])
@pytest.mark.parametrize("transport", ["rest_url", "grpc_url"])
def test_the_command_answers_as_it_does_without_a_server(server, exported, folder, transport, routing):
    words = ("--format", "json", "--routing", routing, folder)
    local = run("predict", "--model", exported, *words)
    remote = run("predict", "--server", getattr(server, transport), *words)
    assert remote.exit_code == local.exit_code == 1
    assert "phantom" in remote.stderr
    ours, theirs = ([json.loads(line) for line in result.stdout.splitlines()] for result in (local, remote))
    assert len(ours) == len(theirs) == 10
    for here, there in zip(ours, theirs, strict=True):
        assert list(here) == list(there)
        if "error" in here:
            assert here == there
            continue
        assert (here["path"], here["label"]) == (there["path"], there["label"])
        assert here["probabilities"] == pytest.approx(there["probabilities"], abs=1e-6)
        for node, pair in here["nodes"].items():
            assert there["nodes"][node] == (pair and pytest.approx(pair, abs=1e-6))


@pytest.mark.parametrize(
    "place", ["", "/", "/v1/models/bach", "/v1/models/bach/versions/1", "/v1/models/bach/labels/stable"]
)
@pytest.mark.parametrize("transport", ["rest_url", "grpc_url"])
def test_a_model_is_named_as_tf_serving_names_it(server, export, transport, place):
    assert Remote(getattr(server, transport) + place).card == export.card


@pytest.mark.parametrize("transport", ["rest_url", "grpc_url"])
@pytest.mark.parametrize("place", ["/v1/models/other", "/v1/models/bach/versions/7"])
def test_a_model_that_is_not_there(server, transport, place, no_pauses):
    with pytest.raises(OSError, match="Servable not found"):
        Remote(getattr(server, transport) + place)
    assert no_pauses == []


@pytest.mark.parametrize("transport", ["rest_url", "grpc_url"])
def test_a_label_that_is_not_there(server, transport, folder):
    result = run("predict", "--server", f"{getattr(server, transport)}/v1/models/bach/labels/canary", folder)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Unrecognized servable version label: canary" in result.stderr


@pytest.mark.parametrize(
    "url",
    ["localhost:8501", "ftp://h:1", "http://h", "grpc://h:x", "http://h:1/v2", "grpc://h:1/v1/models/", "http://h:0",
     "http://h:1?x=1", "http://h:1#x", "http://h:1/v1/models/%zz", "http://h:1/v1/models/%ff", "grpc://user@h:1"],
)  # fmt: skip
def test_what_is_not_an_address_is_refused(url):
    with pytest.raises(ValueError, match="not a server's address"):
        Remote(url)


def test_one_of_model_and_server(exported, folder):
    for words in ((), ("--model", exported, "--server", "http://h:1")):
        result = run("predict", *words, folder)
        assert result.exit_code == 2
        assert "Name one of --model EXPORT and --server URL" in result.output


@pytest.mark.parametrize("transport", ["rest_url", "grpc_url"])
def test_large_images_go_in_several_requests(server, folder, monkeypatch, transport):
    remote = Remote(getattr(server, transport), send_whole=True)
    together = list(predict_files(remote, [folder]))
    sizes = []
    call = remote._server.call
    monkeypatch.setattr(remote._server, "call", lambda *given: sizes.append(len(given[2])) or call(*given))
    remote.request_bytes = 250_000
    split = list(predict_files(remote, [folder]))
    assert len(sizes) > 3
    assert sum(sizes) == 9
    assert [row.get("label") for row in split] == [row.get("label") for row in together]


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_a_server_that_is_not_there_is_tried_again_and_then_named(scheme, no_pauses):
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as closed:
        url = f"{scheme}://127.0.0.1:{closed.server_address[1]}"
    with pytest.raises(OSError, match=f"{url} does not answer.*Connection refused"):
        Remote(url)
    assert no_pauses == list(client.PAUSES)


def test_a_password_in_an_address_is_not_repeated(no_pauses):
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as closed:
        place = f"127.0.0.1:{closed.server_address[1]}"
    with pytest.raises(OSError, match=f"^http://{place} does not answer") as caught:
        Remote(f"http://user:secret@{place}")
    assert "secret" not in str(caught.value)


def test_a_server_without_tls_fails_at_once(no_pauses):
    def answer_in_the_clear(listener):
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer_in_the_clear, args=(listener,))
        thread.start()
        with pytest.raises(OSError, match=r"TLS to .* failed.*\(.+\)"):
            Remote(f"https://127.0.0.1:{listener.getsockname()[1]}")
        thread.join()
    assert no_pauses == []


@pytest.mark.parametrize("seconds", ["inf", "1e10", "86401", "0", "-1", "nan"])
def test_a_timeout_out_of_range_is_refused(seconds, folder):
    result = run("predict", "--server", "http://127.0.0.1:1", "--timeout", seconds, folder)
    assert result.exit_code == 2
    assert "--timeout" in result.output


class Scripted(BaseHTTPRequestHandler):
    """Answers each POST with the next of the script: a status and a JSON value, or silence."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        code, value = self.server.script.pop(0)
        if code is None:
            threading.Event().wait(1)
            return
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def scripted():
    """Return (URL, script) of a server that answers by it."""
    with HTTPServer(("127.0.0.1", 0), Scripted) as server:
        server.script = []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", server.script
        server.shutdown()
        thread.join()


CARD = (200, {"outputs": [json.dumps(SAID)]})


def test_503_is_tried_again_and_no_other_failure_is(scripted, no_pauses):
    url, script = scripted
    script += [(503, {"error": "loading"}), (503, {"error": "loading"}), CARD]
    assert Remote(url).card == SAID
    assert no_pauses == list(client.PAUSES[:2])
    script += [(500, {"error": "out of memory"})]
    with pytest.raises(OSError, match="failed with 500: out of memory"):
        Remote(url)
    script += [(503, {"error": "loading"})] * 5
    with pytest.raises(OSError, match="not ready: loading"):
        Remote(url)
    assert script == []


def test_a_slow_server_is_not_tried_again(scripted, no_pauses):
    url, script = scripted
    script += [(None, None)]
    with pytest.raises(OSError, match=r"longer than 0\.2 s"):
        Remote(url, timeout=0.2)
    assert no_pauses == []


def test_a_batch_that_fails_gives_error_rows_and_the_next_is_answered(scripted, server, folder, export):
    url, script = scripted
    good = {
        name: [v.decode() for v in value.numpy()] if name == "label" else value.numpy().tolist()
        for name, value in export.encoded([(folder / f"{n}.png").read_bytes() for n in (8, 9)]).items()
    }
    script += [CARD, (400, {"error": "no, thank you"}), (200, {"outputs": good})]
    rows = list(predict_files(Remote(url), [folder]))
    assert all("no, thank you" in rows[n]["error"] for n in (0, 1, 2, 3, 4, 6, 7))
    assert "cut short" in rows[5]["error"]
    assert [row["label"] for row in rows[8:]] == good["label"]


@pytest.mark.parametrize(
    "answer", [(200, b"<html>"), (200, {"predictions": []}), (200, [1]), (200, {"outputs": [[1], 2]})]
)
def test_a_server_of_another_kind(scripted, answer):
    url, script = scripted
    script += [answer]
    with pytest.raises(OSError, match="does not answer as TF Serving does"):
        Remote(url)


@pytest.mark.parametrize(
    "card",
    [
        (400, {"error": 'Serving signature name: "card" not found in signature def'}),
        (400, {"error": 'Serving signature key "card" not found.'}),
        (400, {"error": "input tensor alias not found in signature: query. Inputs expected to be in the set {x}."}),
        (200, {"outputs": {"scores": [[0.5]]}}),
        (200, {"outputs": [0.5]}),
        (200, {"outputs": []}),
        (200, {"outputs": ["text"]}),
    ],
)
def test_a_model_of_another_kind_has_no_card_and_no_answers(scripted, folder, card):
    url, script = scripted
    script += [card, (200, {"outputs": {"scores": [[0.5]]}})]
    result = run("predict", "--server", url, "--format", "json", folder / "0.png")
    assert result.exit_code == 1
    assert "does not say what its model was trained on" in result.stderr
    assert "an export of this project" in json.loads(result.stdout)["error"]


@contextlib.contextmanager
def refusing(code):
    """Serve gRPC that answers every call with a status; yield its URL and the calls as they come."""
    calls = []

    def refuse(message, context):
        calls.append(message)
        context.abort(code, "details")

    methods = {"Predict": grpc.unary_unary_rpc_method_handler(refuse)}
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("tensorflow.serving.PredictionService", methods)]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"grpc://127.0.0.1:{port}", calls
    server.stop(0).wait()


@pytest.mark.parametrize(
    ("code", "kind", "tries"),
    [
        (grpc.StatusCode.UNAVAILABLE, UnavailableError, 3),
        (grpc.StatusCode.FAILED_PRECONDITION, NotTakenError, 1),
        (grpc.StatusCode.INVALID_ARGUMENT, NotTakenError, 1),
        (grpc.StatusCode.DEADLINE_EXCEEDED, ServerError, 1),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, ServerError, 1),
    ],
)
def test_only_an_unavailable_grpc_server_is_tried_again(code, kind, tries):
    with refusing(code) as (url, calls), pytest.raises(ServerError, match=r"details|longer than") as caught:
        Remote(url, pauses=(0.0, 0.0))
    assert type(caught.value) is kind
    assert len(calls) == tries


def test_bytes_beyond_grpcs_usual_limit_that_end_in_zeros_arrive_whole(server, export):
    image = phantom.draw("normal", 906, 0)[::4, ::4]
    padded = as_png(image) + bytes(5 * 2**20)
    for url in (server.rest_url, server.grpc_url):
        answer = Remote(url).encoded([padded])
        np.testing.assert_allclose(answer["probabilities"], export.encoded([padded])["probabilities"], atol=1e-6)
