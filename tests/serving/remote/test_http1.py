"""The server's HTTP, spoken byte by byte, with an answer that needs no model."""

import contextlib
import json
import re
import socket
import threading
import time

import pytest

from bach_keras.serving.remote.http1 import Limits, Listener

GET = b"GET /state HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /answer HTTP/1.1\r\nHost: x\r\n"
CHUNKS = b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"
MAX_BODY = 1000


@contextlib.contextmanager
def listening(answer=None, **limits):
    """Run a listener that repeats the request, unless it is given another answer."""

    def repeat(method, target, body):
        return 200, {"method": method, "target": target, "body": body.decode("latin1")}

    listener = Listener("127.0.0.1", 0, answer or repeat, MAX_BODY, Limits(**limits))
    thread = threading.Thread(target=listener.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield listener
    finally:
        listener.stop(1)
        thread.join()


@pytest.fixture
def listener():
    with listening() as listener:
        yield listener


def connect(listener):
    return socket.create_connection(listener.server_address, timeout=10)


def received(connection):
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := connection.recv(2**16):
            data += chunk
    return data


def parsed(data):
    """Return (status, what it says) of each answer."""
    found = []
    while data:
        head, _, rest = data.partition(b"\r\n\r\n")
        status = int(re.match(rb"HTTP/1\.1 (\d{3}) [A-Z]", head)[1])
        if status == 100:
            data = rest
            continue
        assert b"\r\nContent-Type: application/json\r\n" in head
        length = int(re.search(rb"\r\nContent-Length: (\d+)", head)[1])
        found.append((status, json.loads(rest[:length])))
        data = rest[length:]
    return found


def exchange(listener, data):
    """Send bytes and nothing after them; return the answers."""
    with connect(listener) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        return parsed(received(connection))


def wait_for(listener, busy, idle):
    """Wait until the listener counts so many connections; its threads are not those of the test."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with listener._lock:
            is_idle = [each.idle_since is not None for each in listener._connections]
        if (is_idle.count(False), is_idle.count(True)) == (busy, idle):
            return
        time.sleep(0.01)
    pytest.fail(f"{is_idle} instead of {busy} busy and {idle} idle connections")


def test_a_body_on_get_is_not_taken_for_the_next_request(listener):
    answers = exchange(listener, GET + b"Content-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN + GET + b"\r\n")
    assert [(code, value["target"]) for code, value in answers] == [(200, "/state"), (200, "/state")]


def test_chunks_are_put_together(listener):
    ((code, value), _) = exchange(listener, POST + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS + GET + b"\r\n")
    assert (code, value["body"]) == (200, "abcdefg")


def test_requests_sent_together_are_answered_in_their_order(listener):
    posted = POST + b"Content-Length: 2\r\n\r\n"
    answers = exchange(listener, GET + b"\r\n" + posted + b"ab" + posted + b"cd" + GET + b"\r\n")
    assert [value["body"] for _, value in answers] == ["", "ab", "cd", ""]


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS, 400),
        (POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
        (POST + b"Content-Length: 3, 4\r\n\r\nabcd", 400),
        (POST + b"Content-Length: +3\r\n\r\nabc", 411),
        (POST + b"Content-Length: 1_0\r\n\r\nabcdefghij", 411),
        (POST + b"Content-Length: -3\r\n\r\nabc", 411),
        (POST + b"Content-Length: 0x3\r\n\r\nabc", 411),
        (POST + b"Content-Length:\r\n\r\nabc", 411),
        (POST + b"\r\nabc", 411),
        (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKS, 501),
        (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS, 501),
        (POST + b"Transfer-Encoding: identity\r\n\r\nabc", 501),
        (POST + b"Transfer-Encoding : chunked\r\n\r\n" + CHUNKS, 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\nabc\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n0\r\n\r\n", 400),
        (POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS, 400),
        (GET.replace(b"\r\nHost", b"\r\n Host") + b"\r\n", 400),
        (GET + b"Host: y\r\n\r\n", 400),
        (GET + b"X: a\0b\r\n\r\n", 400),
        (GET + b"X: a\rY: b\r\n\r\n", 400),
        (GET.replace(b"Host: x\r\n", b"") + b"\r\n", 400),
        (GET.replace(b" HTTP/1.1", b"") + b"\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", 400),
        (GET.replace(b"1.1", b"2.0") + b"\r\n", 505),
        (GET.replace(b"GET", b"DELETE") + b"Content-Length: 3\r\n\r\nabc", 405),
        (GET.replace(b"GET", b"PUT") + b"\r\n", 405),
        (b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (GET.replace(b"GET", b"BREW") + b"\r\n", 501),
        (GET.replace(b"/state", b"/" + b"s" * 9000) + b"\r\n", 414),
        (GET.replace(b"/state", b"/" + b"s" * 200_000) + b"\r\n", 414),
        (GET + b"".join(b"X-%d: y\r\n" % number for number in range(5000)) + b"\r\n", 431),
        (GET + b"X: " + b"y" * 30_000 + b"\r\n\r\n", 431),
        (POST + b"Content-Length: %d\r\n\r\n" % (MAX_BODY + 1) + b"a" * (MAX_BODY + 1), 413),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"64\r\n" + (b"a" * 100 + b"\r\n64\r\n") * 11, 413),
        (POST + b"Content-Length: 3\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b\x08", 415),
        (POST + b"Content-Length: 100\r\n\r\nabc", 400),
    ],
)
def test_a_bad_request_gets_one_reason_in_json_and_the_connection_ends(listener, request_, code):
    answers = exchange(listener, request_ + HIDDEN)

    assert [(status, list(value)) for status, value in answers] == [(code, ["error"])]


def test_what_other_servers_let_pass_is_no_harm(listener):
    upgrade = b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    twice = POST + b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n"
    for head in ((GET + b"\r\n").replace(b"\r\n", b"\n"), GET + b"X: folded\r\n line\r\n\r\n", GET + upgrade, twice):
        assert [code for code, _ in exchange(listener, head + GET + b"\r\n")] == [200, 200]


def test_head_has_the_length_and_no_body(listener):
    with connect(listener) as connection:
        connection.sendall(GET.replace(b"GET", b"HEAD") + b"Connection: close\r\n\r\n")
        head, _, body = received(connection).partition(b"\r\n\r\n")
    assert b" 200 OK" in head
    assert int(re.search(rb"Content-Length: (\d+)", head)[1]) > 0
    assert body == b""


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (b"HEAD /%s HTTP/1.1\r\nHost: x\r\n\r\n" % (b"s" * 9000), 414),
        (b"HEAD / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY + 1), 413),
        (b"HEAD / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Encoding: gzip\r\n\r\n", 415),
        (b"HEAD / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    ],
)
def test_head_that_is_refused_is_answered_without_a_body(listener, head, code):
    with connect(listener) as connection:
        connection.sendall(head)
        status, _, body = received(connection).partition(b"\r\n\r\n")
    assert status.startswith(b"HTTP/1.1 %d " % code)
    assert body == b""


def test_empty_lines_before_a_request_are_ignored(listener):
    posted = POST + b"Content-Length: 2\r\n\r\nab\r\n"  # a line end behind the body, as old clients send it
    assert [code for code, _ in exchange(listener, b"\r\n" + posted + b"\r\n" + GET + b"\r\n")] == [200, 200]
    with connect(listener) as connection:
        for part in (b"\r\n", posted, GET + b"\r\n"):
            connection.sendall(part)
            time.sleep(0.05)
        connection.shutdown(socket.SHUT_WR)
        assert [code for code, _ in parsed(received(connection))] == [200, 200]


def test_version_1_0_is_answered_once(listener):
    head = GET.replace(b"1.1", b"1.0") + b"Connection: keep-alive\r\n\r\n"
    with connect(listener) as connection:
        connection.sendall(head)
        data = received(connection)
    assert [code for code, _ in parsed(data)] == [200]
    assert b"Connection: close" in data


def test_a_body_that_waits_to_be_asked_for_is_asked_for(listener):
    head = POST + b"Expect: 100-continue\r\n"
    with connect(listener) as connection:
        connection.sendall(head + b"Content-Length: 3\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"abc")
        connection.shutdown(socket.SHUT_WR)
        assert parsed(received(connection))[0][1]["body"] == "abc"
    with connect(listener) as connection:
        connection.sendall(head + b"Content-Length: 3000\r\n\r\n")
        data = received(connection)
    assert data.startswith(b"HTTP/1.1 413 ")


def test_kept_alive_answers_come_at_once(listener):
    times = []
    with connect(listener) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as clients do
        for _ in range(11):
            start = time.monotonic()
            connection.sendall(POST + b"Content-Length: 3\r\n\r\n")
            connection.sendall(b"abc")
            connection.recv(2**16)
            times.append(time.monotonic() - start)
    assert sorted(times)[2] < 0.03  # a delayed acknowledgement takes 0.04


def test_a_fault_of_the_servers_own_is_answered_in_json(capsys):
    def broken(*request):
        raise RuntimeError("a fault")

    with listening(broken) as listener:
        answers = exchange(listener, (GET + b"\r\n") * 2)
    assert [code for code, _ in answers] == [500, 500]
    assert "a fault" not in answers[0][1]["error"]
    assert "RuntimeError: a fault" in capsys.readouterr().err


def test_clients_that_do_not_read_their_answers_hold_nobody():
    large = "a" * 15_000_000  # more than the buffers between the two hold

    def answer(method, target, body):
        return 200, large if target == "/large" else "small"

    with listening(answer, send=0.5) as listener, contextlib.ExitStack() as stack:
        for _ in range(6):
            stack.enter_context(connect(listener)).sendall(GET.replace(b"/state", b"/large") + b"\r\n")
        assert exchange(listener, GET + b"\r\n") == [(200, "small")]
        wait_for(listener, busy=0, idle=0)


def test_a_request_that_is_not_complete_in_time_is_answered_and_one_that_never_starts_is_not():
    with listening(receive=0.3, idle=0.3) as listener:
        for framing in (b"", b"Content-Length: 100\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\n"):
            with connect(listener) as connection:
                connection.sendall(POST + framing)
                assert [code for code, _ in parsed(received(connection))] == [408]
        for asked in (b"", GET + b"\r\n"):
            with connect(listener) as connection:
                connection.sendall(asked)
                assert len(parsed(received(connection))) == bool(asked)


def test_a_client_that_sends_byte_by_byte_has_no_more_time():
    with listening(receive=0.4) as listener, connect(listener) as connection:
        start = time.monotonic()
        with contextlib.suppress(OSError):
            for byte in GET + b"X: " + b"y" * 100:
                connection.sendall(bytes([byte]))
                time.sleep(0.02)
                if time.monotonic() - start > 0.6:
                    break
        assert parsed(received(connection))[0][0] == 408


def test_bodies_under_way_share_a_limit():
    with listening(bodies=1000) as listener, connect(listener) as first:
        first.sendall(POST + b"Content-Length: 700\r\n\r\n" + b"a" * 600)
        end = time.monotonic() + 10
        while listener.bodies._left > 400 and time.monotonic() < end:
            time.sleep(0.01)
        ((code, value),) = exchange(listener, POST + b"Content-Length: 700\r\n\r\n" + b"a" * 700)
        assert (code, "try again" in value["error"]) == (503, True)
        first.sendall(b"a" * 100)
        first.shutdown(socket.SHUT_WR)
        assert parsed(received(first))[0][0] == 200
        assert exchange(listener, POST + b"Content-Length: 700\r\n\r\n" + b"a" * 700)[0][0] == 200


def test_the_longest_idle_connection_makes_place_and_busy_ones_do_not():
    with listening(connections=2) as listener, connect(listener) as older, connect(listener) as newer:
        for connection in (older, newer):
            connection.sendall(GET + b"\r\n")
            assert parsed(connection.recv(2**16))[0][0] == 200
            wait_for(listener, busy=0, idle=2)
        assert exchange(listener, GET + b"\r\n")[0][0] == 200
        assert received(older) == b""
        wait_for(listener, busy=0, idle=1)
        newer.sendall(GET)  # a request under way
        with connect(listener) as third:
            third.sendall(GET)
            wait_for(listener, busy=2, idle=0)
            with connect(listener) as refused:
                ((code, value),) = parsed(received(refused))
            assert (code, "too many connections" in value["error"]) == (503, True)
            for connection in (newer, third):
                connection.sendall(b"\r\n")
                assert parsed(connection.recv(2**16))[0][0] == 200


def test_of_too_many_busy_connections_one_that_is_slow_to_send_gives_way():
    with (
        listening(connections=2, haste=0.3, linger=0.1) as listener,
        connect(listener) as slow,
        connect(listener) as new,
    ):
        slow.sendall(POST + b"Content-Length: 100\r\n\r\nabc")
        wait_for(listener, busy=1, idle=1)
        time.sleep(0.4)
        new.sendall(GET)
        wait_for(listener, busy=2, idle=0)
        assert exchange(listener, GET + b"\r\n")[0][0] == 200
        ((code, value),) = parsed(received(slow))
        assert (code, "slow to come" in value["error"]) == (408, True)
        new.sendall(b"\r\n")
        assert parsed(new.recv(2**16))[0][0] == 200


def test_a_request_may_be_complete_while_the_slowest_one_is_looked_for():
    class Completing:
        """A connection whose request is complete once it has been looked at."""

        idle_since, _looks = None, iter([0.0])

        @property
        def begun(self):
            return next(self._looks, None)

        def hurry(self):
            hurried.append(self)

    hurried = []
    with listening() as listener:
        completing = Completing()
        listener._connections = {completing}
        listener._make_room()
        listener._connections = set()
    assert hurried == [completing]


def test_stopping_ends_idle_connections_and_lets_requests_end():
    started, ready = threading.Event(), threading.Event()

    def slow(method, target, body):
        started.set()
        assert ready.wait(10)
        return 200, {}

    with listening(slow, linger=0.1) as listener, connect(listener) as idle, connect(listener) as busy:
        busy.sendall(GET + b"\r\n")
        assert started.wait(10)
        stopping = threading.Thread(target=listener.stop, args=(10,))
        stopping.start()
        assert received(idle) == b""
        ready.set()
        data = received(busy)
        stopping.join()
        assert parsed(data) == [(200, {})]
        assert b"Connection: close" in data


def test_stopping_waits_for_a_silent_client_no_longer_than_it_must():
    with listening() as listener, connect(listener) as half:
        half.sendall(GET)
        time.sleep(0.1)
        start = time.monotonic()
        listener.stop(0.3)
        assert time.monotonic() - start < 3
        assert parsed(received(half)) in (
            [],
            [(400, {"error": "Malformed request: peer unexpectedly closed connection"})],
        )
