"""The doors that listen: the development server over REST and gRPC, and the page."""

import base64
import contextlib
import json
import re
import socket
from pathlib import Path

from benchmarks.hostile.answer import ANSWERED, HUNG, REFUSED, Answer, of_refusal
from benchmarks.hostile.pictures import good
from benchmarks.hostile.requests_made import message, posted
from benchmarks.hostile.tree import Tree
from benchmarks.hostile.watch import faults_of

# Every so many inputs a good request must still be answered.
_LOOK = 20
_TAG = re.compile("<[^>]*>")
# Seconds by the clock in which an answer must come.
_PATIENCE = 60
# What listens until the process ends.
_OPEN = []


def rest(tree: Tree, place: Path):
    server = _server(tree)
    host, port = server.rest_url.removeprefix("http://").split(":")

    def send(data: bytes) -> bytes:
        with socket.create_connection((host, int(port)), timeout=_PATIENCE) as connection:
            with contextlib.suppress(OSError):  # it may refuse what it has not read to its end
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
            parts = []
            with contextlib.suppress(ConnectionResetError):
                while part := connection.recv(2**16):
                    parts.append(part)
            return b"".join(parts)

    def ask(number: int, path: Path) -> Answer:
        data = path.read_bytes()
        sent = data if path.suffix == ".http" else _asked(data)
        try:
            answer = _of_http(send(sent))
        except TimeoutError:
            answer = _hung()
        if not sent:  # to nothing there is no answer
            answer.faults.clear()
        if number % _LOOK == 0 and not _is_answered(send(_asked(good()["rgb.png"]))):
            answer.faults.append("a good request after it is not answered")
        return answer

    return ask


def _hung() -> Answer:
    return Answer(HUNG, f"no answer within {_PATIENCE} s")


def _server(tree: Tree):
    from bach_keras.serving.exported import Export
    from bach_keras.serving.remote.server import Server

    server = Server(Export(tree.export))
    server.__enter__()
    _OPEN.append(server)
    return server


def _asked(data: bytes) -> bytes:
    return posted(json.dumps({"instances": [{"b64": base64.b64encode(data).decode()}]}).encode())


def _is_answered(received: bytes) -> bool:
    return received.startswith(b"HTTP/1.1 200") and b'"ok": true' in received.replace(b'":true', b'": true')


def _of_http(received: bytes) -> Answer:
    """Return what each of the answers on a connection comes to; each has one object of JSON."""
    kinds, words, faults = set(), [], []
    rest_of = received
    while rest_of:
        head, _, rest_of = rest_of.partition(b"\r\n\r\n")
        status = re.match(rb"HTTP/1\.1 (\d{3}) ", head)
        length = re.search(rb"(?i)\r\nContent-Length: (\d+)", head)
        if not status or not length:
            return Answer(REFUSED, head[:200].decode("latin1"), ["the answer is not HTTP"])
        body, rest_of = rest_of[: int(length[1])], rest_of[int(length[1]) :]
        if status[1][0:1] == b"5" and status[1] not in (b"501", b"503", b"505"):
            faults.append(f"status {status[1].decode()}: {body[:200]!r}")
        if body:
            try:
                faults += faults_of("json file", body.decode())
            except ValueError:
                faults.append("the body is not JSON")
        faults += ["the headers hold a control"] * bool(re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", head))
        is_fine = status[1] == b"200" and b'"ok": false' not in body.replace(b'":false', b'": false')
        kinds.add(ANSWERED if is_fine else REFUSED)
        words.append(body[:300].decode(errors="replace"))
    if not kinds:
        return Answer(REFUSED, "", ["the connection ends without an answer"])
    return Answer(REFUSED if REFUSED in kinds else ANSWERED, " ".join(words)[:1000], faults)


def grpc(tree: Tree, place: Path):
    import grpc as library
    from tensorflow_serving.apis.predict_pb2 import PredictResponse

    server = _server(tree)
    channel = library.insecure_channel(server.grpc_url.removeprefix("grpc://"), [("grpc.max_send_message_length", -1)])
    call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict", None, None)

    def send(data: bytes) -> Answer:
        try:
            response = PredictResponse.FromString(call(data, timeout=_PATIENCE))
        except library.RpcError as error:
            if error.code() in (library.StatusCode.DEADLINE_EXCEEDED, library.StatusCode.CANCELLED):
                return _hung()
            answer = of_refusal(str(error.details()))
            if error.code() in (
                library.StatusCode.INTERNAL,
                library.StatusCode.UNKNOWN,
                library.StatusCode.UNAVAILABLE,
            ):
                answer.faults.append(f"{error.code().name}: {error.details()}")
            return answer
        return Answer(ANSWERED if all(response.outputs["ok"].bool_val) else REFUSED, "ok")

    def ask(number: int, path: Path) -> Answer:
        data = path.read_bytes()
        answer = send(data if path.suffix == ".pb" else message([data]))
        if number % _LOOK == 0 and send(message([good()["rgb.png"]])).kind != ANSWERED:
            answer.faults.append("a good request after it is not answered")
        return answer

    return ask


def page(tree: Tree, place: Path):
    """Files uploaded to the page as a browser does, and the HTML that it then shows of them."""
    import requests

    from bach_keras.serving.app.answers import Answers, Visit
    from bach_keras.serving.app.page import answering
    from bach_keras.serving.app.site import Site
    from bach_keras.serving.exported import Export

    answers = Answers(Export(tree.export))
    answers.warm_up()
    site = Site(answers)
    site.__enter__()
    _OPEN.append(site)
    session, answer = requests.Session(), answering(answers, site.uploads.folder)

    def ask(number: int, path: Path) -> Answer:
        name = path.name.encode(errors="surrogateescape").decode("utf-8", "replace")
        with path.open("rb") as file:
            try:
                sent = session.post(f"{site.url}/gradio_api/upload", files={"files": (name, file)}, timeout=_PATIENCE)
            except requests.Timeout:
                return _hung()
        if sent.status_code != 200:
            refused = of_refusal(sent.text[:500])
            refused.faults += [f"status {sent.status_code}"] * (sent.status_code >= 500)
            return refused
        (held,) = sent.json()
        shown = "".join(part for said in answer([{"path": held, "orig_name": name}], Visit()) for part in said[1:])
        return Answer(
            REFUSED if 'class="error"' in shown else ANSWERED, _TAG.sub(" ", shown)[-300:], faults_of("html", shown)
        )

    return ask
