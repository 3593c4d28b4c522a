"""What ``benchmarks.load`` makes of a server that breaks a promise."""

import http.client
import json
import signal
import socket
import threading
import types

import grpc
import numpy as np
import pytest

from benchmarks import load, load_clients, load_hostile, load_server
from benchmarks.load_clients import BUSY, LEFT, LOST, REFUSED, RIGHT, UNEXPECTED, WRONG, Client, Result, Target
from benchmarks.load_known import Album, Known, compared


def row(*numbers):
    return {"label": "benign", "ok": True, "probabilities": np.float32(numbers)}


def client_of(*known, role=(), results=None):
    album = Album([Known(b"", {"routed": each, "serving_default": each}) for each in known], 1e-3, 1.0)
    return Client(Target(("", 0), "", album), dict(role), 0, [] if results is None else results, threading.Event())


def raises(error):
    def act(client):
        raise error

    return act


class Failed(grpc.RpcError):
    def __init__(self, name, details=None):
        self._name, self._details = name, details

    def code(self):
        return grpc.StatusCode[self._name]

    def details(self):
        return self._details


@pytest.mark.parametrize(
    ("act", "kind", "outcome"),
    [
        (lambda client: json.loads("{"), "REST", UNEXPECTED),
        (lambda client: {}["outputs"], "REST", UNEXPECTED),
        (lambda client: client.judge("routed", [0], [{"label": "benign"}]), "gRPC", WRONG),
        (lambda client: client.judge("routed", [None], [{}]), "gRPC", UNEXPECTED),
        (lambda client: client.judge("routed", [0], [row(0, 1) | {"probabilities": ["a"]}]), "REST", UNEXPECTED),
        (raises(TimeoutError("timed out")), "slow", LOST),
        (raises(ConnectionResetError()), "slow", LEFT),
        (raises(ConnectionResetError()), "REST", LOST),
        (raises(http.client.BadStatusLine("x")), "REST", LOST),
        (raises(Failed("UNAVAILABLE")), "gRPC", LOST),
        (raises(Failed("UNAVAILABLE", "try again")), "gRPC", BUSY),
    ],
)
def test_whatever_is_answered_is_counted(act, kind, outcome):
    assert client_of(row(0, 1))._outcome(act, kind).outcome == outcome


def test_a_client_goes_on_after_an_answer_that_it_cannot_read():
    results = []

    def act(client):
        client.stopped.set() if results else None
        return json.loads("{")

    client_of(row(0, 1), role={"REST": {"known images": act}}, results=results).run()
    assert [result.outcome for result in results] == [UNEXPECTED] * 2
    assert load.faults(results)[0].startswith("- 2 x REST, known images: unexpected (JSONDecodeError")


@pytest.mark.parametrize("numbers", [[np.nan, 1], [np.inf, 1], [1], [[0, 1]], [0], []])
def test_numbers_that_are_not_finite_or_of_another_shape_are_wrong(numbers):
    assert compared(row(0, 1), row(*numbers)) == np.inf
    assert client_of(row(0, 1)).judge("routed", [0], [row(*numbers)]).outcome == WRONG


class Connection:
    """A connection that answers once and is then closed without a word."""

    def __init__(self, *place, timeout):
        self._asked = 0

    def request(self, *words):
        self._asked += 1

    def getresponse(self):
        if self._asked > 1:
            raise http.client.RemoteDisconnected
        return types.SimpleNamespace(status=200, read=lambda: b"{}", will_close=False)

    def close(self):
        pass


@pytest.mark.parametrize(("idle", "is_bad"), [(0.0, True), (5.0, False)])
def test_a_request_that_is_sent_twice_is_counted_and_bad_on_a_connection_in_use(monkeypatch, idle, is_bad):
    monkeypatch.setattr(http.client, "HTTPConnection", Connection)
    monkeypatch.setattr(load_clients, "IDLE", 3.0)
    results = []

    def act(client):
        client.random.random = lambda: 1.0  # the connection is kept
        client.rest("GET", "/")
        client._answered -= idle
        client.rest("GET", "/")
        client.stopped.set()
        return load_clients.Outcome(RIGHT)

    client_of(row(0, 1), role={"REST": {"known images": act}}, results=results).run()
    assert [result.is_bad for result in results] == [is_bad]
    assert len(load.faults(results)) == is_bad
    assert load.table(results, 0)[-1].split(" | ")[2:10] == ["1", "0", "0", "0", "0", "0", "0", "1"]


@pytest.mark.parametrize(("closes", "outcome"), [(True, REFUSED), (False, UNEXPECTED)])
def test_a_connection_with_noise_must_be_closed(closes, outcome):
    ours, theirs = socket.socketpair()
    client = client_of(row(0, 1))
    client.connected = lambda to_rpc: ours
    ours.settimeout(0.01)
    if closes:
        theirs.close()
    assert load_hostile.RPC_BROKEN["no HTTP/2"](client).outcome == outcome
    theirs.close()


@pytest.mark.parametrize(("code", "outcome"), [("CANCELLED", LEFT), ("INTERNAL", LOST), ("DEADLINE_EXCEEDED", LOST)])
def test_a_late_message_may_be_given_up_but_not_fail(code, outcome):
    client = client_of(row(0, 1))
    client._channel = types.SimpleNamespace(stream_unary=lambda call: lambda late, timeout: raises(Failed(code))(late))
    assert client._outcome(load_hostile.RPC_SLOW["a late message"], "slow").outcome == outcome


@pytest.mark.parametrize(
    ("words", "said"),
    [("print('elsewhere')", "elsewhere"), ("raise SystemExit('a reason')", "a reason"), ("input()", "said nothing")],
)
def test_a_server_that_does_not_say_its_address_is_ended(monkeypatch, words, said):
    ended = []
    popen = load_server.subprocess.Popen

    def start(command, **how):
        ended.append(popen([command[0], "-c", words], stdin=load_server.subprocess.PIPE, **how))
        return ended[0]

    monkeypatch.setattr(load_server.subprocess, "Popen", start)
    with pytest.raises(SystemExit, match=said):
        load_server.Process(["serve"], "at (.*)", starts=60 if words != "input()" else 0.2)
    assert ended[0].returncode in (0, 1, -signal.SIGKILL)
    ended[0].stdin.close()


def result(outcome, ended, images=1):
    return Result("broken REST", "noise", ended - 1, ended, outcome, images=images)


def test_what_must_not_have_happened_before_a_signal_is_seen_and_what_came_after_is_not(capsys):
    assert load.judge_rest([result(RIGHT, 5), result(LOST, 11)], 0, when=10)
    assert load.judge_rest([result(LOST, 5), result(RIGHT, 6)], 1, when=10)  # it has been shown
    assert not load.judge_rest([result(RIGHT, 5), result(WRONG, 9)], 0, when=10)
    assert "broken REST, noise: wrong" in capsys.readouterr().out
    assert not load.judge_rest([result(RIGHT, 5, images=0)], 0, when=10)
