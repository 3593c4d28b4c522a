"""HTTP/1.1 for the development server: h11 keeps the protocol, and each connection has a thread of its own.

Whatever a client does or fails to do holds up no connection but its own: waiting, receiving and sending each have a
time-out, and the bodies of all requests under way share one limit.
"""

import contextlib
import json
import socket
import socketserver
import threading
import time
import traceback
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus

import h11

from bach_keras.serving.remote.http_limits import LIMITS, Budget, Limits
from bach_keras.serving.remote.request_head import (
    MAX_HEAD,
    METHODS,
    BadRequestError,
    check_head,
    malformed,
    too_large,
)


class Listener(socketserver.TCPServer):
    """Accepts connections, on a free port if that is 0, and answers their requests in JSON.

    ``answer`` is called with method, target and body; it returns the status and what is sent as JSON.
    """

    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, host: str, port: int, answer: Callable, max_body: int, limits: Limits = LIMITS):
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.answer, self.max_body, self.limits = answer, max_body, limits
        self.bodies = Budget(limits.bodies)
        self.is_closing = self.is_stopping = False
        self._connections = set()
        self._lock = threading.Lock()
        super().__init__((host, port), None)

    def process_request(self, request, client_address):
        """Give the connection a thread, or answer that there are too many."""
        connection = _Connection(request, self)
        with self._lock:
            if len(self._connections) >= self.limits.connections:
                self._make_room()
            if is_taken := len(self._connections) < self.limits.connections:
                self._connections.add(connection)
        if is_taken:
            connection.start()
        else:
            connection.turn_away()

    def _make_room(self):
        """Close the connection that has been idle for longest, or else that which has been sending for too long."""
        idle = [each for each in self._connections if each.idle_since is not None]
        if idle:
            self._drop(min(idle, key=lambda each: each.idle_since))
            return
        # Read once: a connection's own thread takes no lock to say that its request has come.
        found = [(begun, each) for each in self._connections if (begun := each.begun) is not None]
        begun, slowest = min(found, key=lambda pair: pair[0], default=(None, None))
        if slowest and time.monotonic() - begun > self.limits.haste:
            self._connections.discard(slowest)
            slowest.hurry()

    def is_wanted(self, connection) -> bool:
        """Return whether a connection on which a request starts is still open; from now on it is not idle."""
        with self._lock:
            connection.idle_since = None
            return connection in self._connections

    def forget(self, connection) -> None:
        """Stop counting a connection."""
        with self._lock:
            self._connections.discard(connection)

    def close(self) -> None:
        """Close each connection after its next answer; new ones are accepted, and can ask why."""
        self.is_closing = True

    def stop(self, grace: float) -> None:
        """Close idle connections, give the others some seconds to end their request, then close them too."""
        self.shutdown()
        self.server_close()
        end = time.monotonic() + grace
        with self._lock:
            self.is_closing = self.is_stopping = True
            busy = [each for each in self._connections if each.idle_since is None]
            for connection in self._connections.difference(busy):
                self._drop(connection)
        for connection in busy:
            connection.join(max(0, end - time.monotonic()))
        with self._lock:
            for connection in list(self._connections):
                self._drop(connection)

    def _drop(self, connection):
        self._connections.discard(connection)
        connection.hang_up()


class _Connection(threading.Thread):
    """One client, whose requests are answered one after the other."""

    def __init__(self, sock: socket.socket, listener: Listener):
        super().__init__(name="http", daemon=True)
        self.idle_since = time.monotonic()  # None while there is a request
        self.begun = None  # when the request began of which more must come
        self._is_hurried = False
        self._sock, self._listener = sock, listener
        self._await_request(b"")
        self._held = 0  # bytes of the body under way
        self._until = 0.0  # when the client must have sent what is waited for

    def run(self):
        try:
            # Without this option the end of an answer waits 40 ms for the client's delayed acknowledgement.
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while self._exchange():
                received, _ = self._http.trailing_data
                self._await_request(received)
            self._linger()
        except OSError:  # the client is gone, or too slow
            pass
        finally:
            self._sock.close()
            self._listener.forget(self)

    def turn_away(self):
        """Refuse the connection without a thread: the answer is short enough for a socket to take at once."""
        try:
            self._sock.settimeout(0)
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, {"error": "There are too many connections: try again."}, True)
        except OSError:
            pass
        finally:
            self._sock.close()

    def hang_up(self):
        """End the connection from another thread; whatever its own thread waits for ends with it."""
        with contextlib.suppress(OSError):  # the connection has ended already
            self._sock.shutdown(socket.SHUT_RDWR)

    def hurry(self):
        """Wait no longer for the rest of a request; called from another thread."""
        self._is_hurried = True
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RD)

    def _await_request(self, received: bytes):
        """Be ready for a request whose first bytes may have been received; empty lines before it are ignored."""
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self._is_head = False
        if received := received.lstrip(b"\r\n"):
            self._http.receive_data(received)

    def _exchange(self) -> bool:
        """Answer one request; return whether another may follow."""
        is_last = True
        try:
            request = self._request()
            if request is None:
                return False
            body = self._body()
            self.begun = None
            status, value = self._answer(request, body)
            del body  # or it would be kept while the answer is sent
            is_last = False
        except (h11.RemoteProtocolError, BadRequestError) as error:
            refusal = error if isinstance(error, BadRequestError) else malformed(error, self._http)
            status, value = refusal.status, {"error": str(refusal)}
        finally:
            self.begun = None
            # The bytes are free before the answer is sent, as a client may be slow to take it.
            self._listener.bodies.give_back(self._held)
            self._held = 0
        self._send(status, value, is_last)
        return self._http.our_state is self._http.their_state is h11.DONE

    def _request(self):
        """Wait for the head of a request and check it; None where no request comes."""
        self.idle_since = time.monotonic()
        self._until = self.idle_since + self._listener.limits.idle
        if self._listener.is_stopping:
            return None
        event = self._event()
        if isinstance(event, h11.ConnectionClosed):
            return None
        self._is_head = event.method == b"HEAD"
        check_head(event, self._listener.max_body)
        return event

    def _body(self) -> bytearray:
        body = bytearray()
        while isinstance(event := self._event(), h11.Data):
            if len(body) + len(event.data) > self._listener.max_body:
                raise too_large(self._listener.max_body)
            if not self._listener.bodies.take(len(event.data)):
                message = "Too many bytes of other requests are under way: try again."
                raise BadRequestError(HTTPStatus.SERVICE_UNAVAILABLE, message)
            self._held += len(event.data)
            body += event.data
        return body

    def _event(self):
        while (event := self._http.next_event()) is h11.NEED_DATA:
            if self._http.they_are_waiting_for_100_continue:
                self._sock.sendall(self._http.send(h11.InformationalResponse(status_code=100, headers=[])))
            data = self._receive()
            if self.idle_since is not None:
                # Line ends alone do not start a request.
                if data and not (data := data.lstrip(b"\r\n")):
                    continue
                self._begin()
            self._http.receive_data(data)
        if self.idle_since is not None:  # the request came together with the last one
            self._begin()
        return event

    def _begin(self):
        if not self._listener.is_wanted(self):
            raise ConnectionAbortedError
        self.begun = time.monotonic()
        self._until = self.begun + self._listener.limits.receive

    def _receive(self) -> bytes:
        try:
            self._sock.settimeout(max(0.001, self._until - time.monotonic()))
            data = self._sock.recv(2**16)
            if self._is_hurried and not data:
                message = "There are too many connections, and the request is slow to come: try again."
                raise BadRequestError(HTTPStatus.REQUEST_TIMEOUT, message)
            return data
        except TimeoutError:
            if self.idle_since is not None:
                raise  # no request has started, so none is answered
            message = f"The request was not complete within {self._listener.limits.receive} s."
            raise BadRequestError(HTTPStatus.REQUEST_TIMEOUT, message) from None

    def _answer(self, request, body):
        try:
            return self._listener.answer(request.method.decode(), request.target.decode(), body)
        except Exception:  # a bug of ours ends one request, not the server
            traceback.print_exc()
            return HTTPStatus.INTERNAL_SERVER_ERROR, {"error": "The server failed; its own output says why."}

    def _send(self, status, value, is_last):
        data = json.dumps(value).encode()
        headers = [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(data))),
            ("Date", formatdate(usegmt=True)),
        ]
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            headers.append(("Allow", ", ".join(METHODS)))
        if is_last or self._listener.is_closing:
            headers.append(("Connection", "close"))
        response = h11.Response(status_code=status, headers=headers, reason=HTTPStatus(status).phrase)
        answer = self._http.send(response)
        if not self._is_head:
            answer += self._http.send(h11.Data(data))
        answer += self._http.send(h11.EndOfMessage())
        if self._sock.gettimeout() != 0:
            self._sock.settimeout(self._listener.limits.send)  # for sendall as a whole, not for each part
        self._sock.sendall(answer)

    def _linger(self):
        """Receive what the client still sends, and drop it."""
        # A socket that is closed on unread bytes resets the connection, and the answer may be lost.
        self._sock.shutdown(socket.SHUT_WR)
        end = time.monotonic() + self._listener.limits.linger
        while (left := end - time.monotonic()) > 0:
            self._sock.settimeout(left)
            if not self._sock.recv(2**16):
                return
