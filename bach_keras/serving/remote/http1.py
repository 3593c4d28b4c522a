"""HTTP/1.1 for the development server: h11 keeps the protocol, and each connection has a thread of its own.

Nothing that a client does or leaves undone holds more than its own connection: waiting, receiving and sending each
have a time-out, and the bodies of all requests under way share one limit.
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
from http import HTTPMethod, HTTPStatus

import h11

# At one time. Where one more comes, the connection that has been idle for longest is closed.
CONNECTIONS = 64

# Bytes of all bodies that were received and not yet answered.
BODIES = 512 * 2**20

# Bytes of a request's head, and of the target in it.
MAX_HEAD = 16 * 2**10
MAX_TARGET = 8 * 2**10

# Seconds: until a request begins; then until all of it is here; until its answer is taken; until the client, told
# that the connection ends, ends it too.
IDLE = 60
RECEIVE = 60
SEND = 30
LINGER = 2

METHODS = ("GET", "HEAD", "POST")


class _BadRequestError(Exception):
    """A request that is not passed on; the connection ends after the answer, as what follows may not be one."""

    def __init__(self, status: HTTPStatus, message: str):
        super().__init__(message)
        self.status = status


class Listener(socketserver.TCPServer):
    """Accepts connections and answers their requests in JSON.

    Args:
        host: the address to listen on.
        port: 0 takes a free one.
        answer: called with method, target and body; returns the status and what is sent as JSON.
        max_body: bytes of one body.

    Raises:
        OSError: the address cannot be listened on.
    """

    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, host: str, port: int, answer: Callable, max_body: int):
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.answer, self.max_body = answer, max_body
        self.bodies = _Budget(BODIES)
        self.is_stopping = False
        self._connections = set()
        self._lock = threading.Lock()
        super().__init__((host, port), None)

    def process_request(self, request, client_address):
        """Give the connection a thread, or say that there are too many."""
        connection = _Connection(request, self)
        with self._lock:
            idle = [each for each in self._connections if each.idle_since is not None]
            if len(self._connections) >= CONNECTIONS and idle:
                self._drop(min(idle, key=lambda each: each.idle_since))
            if is_taken := len(self._connections) < CONNECTIONS:
                self._connections.add(connection)
        if is_taken:
            connection.start()
        else:
            connection.turn_away()

    def is_wanted(self, connection) -> bool:
        """Say whether a connection on which a request begins is still open; from then on it is not idle."""
        with self._lock:
            connection.idle_since = None
            return connection in self._connections

    def forget(self, connection) -> None:
        """Count a connection no more."""
        with self._lock:
            self._connections.discard(connection)

    def stop(self, grace: float) -> None:
        """Close idle connections, give the others some seconds to end their request, then close them too."""
        self.shutdown()
        self.server_close()
        end = time.monotonic() + grace
        with self._lock:
            self.is_stopping = True
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


class _Budget:
    """Bytes that all connections share."""

    def __init__(self, most: int):
        self._left = most
        self._lock = threading.Lock()

    def take(self, count: int) -> bool:
        with self._lock:
            if is_there := count <= self._left:
                self._left -= count
            return is_there

    def give_back(self, count: int) -> None:
        with self._lock:
            self._left += count


class _Connection(threading.Thread):
    """One client: its requests, one after the other."""

    def __init__(self, sock: socket.socket, listener: Listener):
        super().__init__(name="http", daemon=True)
        self.idle_since = time.monotonic()  # None while there is a request
        self._sock, self._listener = sock, listener
        self._await_request(b"")
        self._held = 0  # bytes of the body under way
        self._until = 0.0  # when the client must have sent what is waited for

    def run(self):
        try:
            # Without it the end of an answer waits for the client's delayed acknowledgement of its beginning, 40 ms.
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
        """Answer without a thread, in the few bytes that a socket takes at once."""
        try:
            self._sock.settimeout(0)
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, {"error": "There are too many connections: try again."}, True)
        except OSError:
            pass
        finally:
            self._sock.close()

    def hang_up(self):
        """End the connection from another thread; whatever its own thread waits for ends with it."""
        with contextlib.suppress(OSError):  # it has ended
            self._sock.shutdown(socket.SHUT_RDWR)

    def _await_request(self, received: bytes):
        """Be ready for a request of which the first bytes may have come; empty lines before it are passed over."""
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
            status, value = self._answer(request, body)
            del body
            is_last = False
        except h11.RemoteProtocolError as error:
            status, value = _status(error, self._http), {"error": f"Malformed request: {_reason(error)}"}
        except _BadRequestError as error:
            status, value = error.status, {"error": str(error)}
        finally:
            self._listener.bodies.give_back(self._held)
            self._held = 0
        self._send(status, value, is_last)
        return self._http.our_state is self._http.their_state is h11.DONE

    def _request(self):
        """Wait for the head of a request and judge it; None where no request comes."""
        self.idle_since = time.monotonic()
        self._until = self.idle_since + IDLE
        if self._listener.is_stopping:
            return None
        event = self._event()
        if isinstance(event, h11.ConnectionClosed):
            return None
        self._is_head = event.method == b"HEAD"
        _check_head(event, self._listener.max_body)
        return event

    def _body(self) -> bytearray:
        body = bytearray()
        while isinstance(event := self._event(), h11.Data):
            if len(body) + len(event.data) > self._listener.max_body:
                raise _too_large(self._listener.max_body)
            if not self._listener.bodies.take(len(event.data)):
                message = "Too many bytes of other requests are under way: try again."
                raise _BadRequestError(HTTPStatus.SERVICE_UNAVAILABLE, message)
            self._held += len(event.data)
            body += event.data
        return body

    def _event(self):
        while (event := self._http.next_event()) is h11.NEED_DATA:
            if self._http.they_are_waiting_for_100_continue:
                self._sock.sendall(self._http.send(h11.InformationalResponse(status_code=100, headers=[])))
            data = self._receive()
            if self.idle_since is not None:
                if data and not (data := data.lstrip(b"\r\n")):
                    continue
                self._begin()
            self._http.receive_data(data)
        if self.idle_since is not None:  # it came together with the last one
            self._begin()
        return event

    def _begin(self):
        if not self._listener.is_wanted(self):
            raise ConnectionAbortedError
        self._until = time.monotonic() + RECEIVE

    def _receive(self) -> bytes:
        try:
            self._sock.settimeout(max(0.001, self._until - time.monotonic()))
            return self._sock.recv(2**16)
        except TimeoutError:
            if self.idle_since is not None:
                raise
            message = f"The request did not come whole within {RECEIVE} s."
            raise _BadRequestError(HTTPStatus.REQUEST_TIMEOUT, message) from None

    def _answer(self, request, body):
        try:
            return self._listener.answer(request.method.decode(), request.target.decode(), body)
        except Exception:
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
        if is_last or self._listener.is_stopping:
            headers.append(("Connection", "close"))
        response = h11.Response(status_code=status, headers=headers, reason=HTTPStatus(status).phrase)
        whole = self._http.send(response)
        if not self._is_head:
            whole += self._http.send(h11.Data(data))
        whole += self._http.send(h11.EndOfMessage())
        if self._sock.gettimeout() != 0:
            self._sock.settimeout(SEND)  # of the whole answer
        self._sock.sendall(whole)

    def _linger(self):
        """Take what the client still sends: a socket that is closed on it resets, and the answer may be lost."""
        self._sock.shutdown(socket.SHUT_WR)
        end = time.monotonic() + LINGER
        while (left := end - time.monotonic()) > 0:
            self._sock.settimeout(left)
            if not self._sock.recv(2**16):
                return


def _check_head(request, max_body):
    """Refuse what cannot be answered before its body is read."""
    headers = dict(request.headers)
    length, is_chunked = headers.get(b"content-length"), b"transfer-encoding" in headers
    if not request.http_version.startswith(b"1."):
        raise _BadRequestError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "The server speaks version 1.1 of HTTP.")
    if is_chunked and (length is not None or request.http_version < b"1.1"):
        # Another reader may see another length: a request could be hidden in the body of this one.
        message = "A request has a Content-Length or, from version 1.1 of HTTP on, a Transfer-Encoding."
        raise _BadRequestError(HTTPStatus.BAD_REQUEST, message)
    if len(request.target) > MAX_TARGET:
        raise _BadRequestError(HTTPStatus.REQUEST_URI_TOO_LONG, f"The URL has more than {MAX_TARGET} bytes.")
    if sum(len(name) + len(value) for name, value in request.headers) > MAX_HEAD:
        message = f"The headers have more than {MAX_HEAD} bytes."
        raise _BadRequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, message)
    if (method := request.method.decode()) not in METHODS:
        known = method in HTTPMethod.__members__
        status = HTTPStatus.METHOD_NOT_ALLOWED if known else HTTPStatus.NOT_IMPLEMENTED
        raise _BadRequestError(status, f"The method is none of {', '.join(METHODS)}.")
    if method == "POST" and length is None and not is_chunked:
        raise _BadRequestError(HTTPStatus.LENGTH_REQUIRED, "The request has no Content-Length.")
    if length is not None and int(length) > max_body:
        raise _too_large(max_body)
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        message = "The body is compressed: send it as it is."
        raise _BadRequestError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, message)


def _too_large(max_body):
    message = f"The request has too many bytes: at most {max_body} are taken."
    return _BadRequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)


def _reason(error) -> str:
    return str(error).partition(": bytearray(")[0]  # behind it h11 repeats what was sent


def _status(error, http) -> HTTPStatus:
    if error.error_status_hint == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE and b"\n" not in http.trailing_data[0]:
        return HTTPStatus.REQUEST_URI_TOO_LONG
    if str(error) == "bad Content-Length":
        return HTTPStatus.LENGTH_REQUIRED
    return HTTPStatus(error.error_status_hint)
