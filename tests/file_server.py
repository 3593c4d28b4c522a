"""A server on this machine that hands out one file, and can be told to misbehave."""

import contextlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer(ThreadingHTTPServer):
    """Serves its content under any name but absent-*; keeps the Range headers it was asked with.

    Attributes:
        content: what it serves.
        ranges: the Range header of each request, None where there was none.
        knows_ranges: whether it sends a part when asked for one.
        stops_after: how many bytes it sends before it breaks off; None for all.
    """

    daemon_threads = True

    def __init__(self, content: bytes):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = content
        self.ranges = []
        self.knows_ranges = True
        self.stops_after = None

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/files/{name}"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        asked = self.headers["Range"]
        server.ranges.append(asked)
        begin = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and server.knows_ranges else 0
        if "/absent-" in self.path:
            self.send_error(404)
            return
        if begin >= len(server.content):
            self.send_error(416)
            return
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(server.content) - begin))
        self.end_headers()
        self.wfile.write(server.content[begin : server.stops_after])

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving(content: bytes):
    """Run a FileServer for as long as the block lasts."""
    with FileServer(content) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
