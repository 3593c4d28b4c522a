"""The page on an address of this machine."""

import asyncio
import logging
import os
import signal
import socket
import threading
import time
from pathlib import Path

from bach_keras.serving.address import cannot_listen
from bach_keras.serving.app.answers import Answers
from bach_keras.serving.app.uploads import Uploads
from bach_keras.signals import wait_for_signal

LOG = logging.getLogger(__name__)

# Seconds that a request may still take when the page is closed.
GRACE = 2

# The largest file that is taken, in bytes: a slide by mistake. Reading refuses what is too large to answer, in the row
# of that image alone; here Gradio would refuse all that was dropped with it.
_LARGEST = 4 << 30

_LOOPBACK = ("127.0.0.1", "localhost", "::1")

_HERE = Path(__file__).parent
# The page loads nothing from anywhere else, whatever a library or a file's name would have it do.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)


class Site:
    """The page of a model, on a free port if its own is 0; a context manager that starts and stops it."""

    def __init__(self, answers: Answers, host: str = "127.0.0.1", port: int = 0):
        self._answers, self._host = answers, host
        try:
            self._socket = _listen(host, port)
        except OSError as error:
            raise cannot_listen(host, port, "--port", error) from error
        place = f"[{host}]" if ":" in host else host
        self.url = f"http://{place}:{self._socket.getsockname()[1]}"

    def __enter__(self):
        import uvicorn

        # A request with a damaged body is answered, and one whose client goes away is no fault.
        logging.getLogger("python_multipart").setLevel(logging.ERROR)
        logging.getLogger("uvicorn.error").addFilter(_is_a_fault)
        self.uploads = Uploads()
        app = _application(self._answers, self.uploads, self._host)
        how = {"log_config": None, "access_log": False, "timeout_graceful_shutdown": GRACE}
        self._server = uvicorn.Server(uvicorn.Config(app, **how))
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="page")
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise RuntimeError("The page's server has not started.")
            time.sleep(0.01)
        return self

    def __exit__(self, *exception):
        self._server.should_exit = True
        self._thread.join()
        self.uploads.close()

    def serve(self) -> None:
        """Answer until SIGTERM, or Ctrl-C, which raises KeyboardInterrupt."""
        stopped = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stopped.set())
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets its background jobs ignore it
        with self:
            LOG.info(f"the page is at {self.url}; Ctrl-C stops it")
            wait_for_signal(stopped)


def _is_a_fault(record) -> bool:
    """Return whether a line of the log tells of a fault, and not of a client that is gone or a page that is closed."""
    from starlette.requests import ClientDisconnect

    error = record.exc_info[1] if record.exc_info else None
    is_closing = "timeout graceful shutdown exceeded" in str(record.msg)
    return not is_closing and not isinstance(error, (ClientDisconnect, asyncio.CancelledError))


def _listen(host, port) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family)


def _application(answers, uploads: Uploads, host: str):
    """Return the page as an application."""
    # Gradio reads these when it is imported and when it starts: it then tells nobody of itself.
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1", "GRADIO_TEMP_DIR": str(uploads.folder)}
    import gradio
    from fastapi import FastAPI
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from bach_keras.serving.app.page import build

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(_Bounded, uploads=uploads)
    app.add_middleware(_Guarded)
    if host in _LOOPBACK:
        # A page elsewhere whose name was made to lead to this machine asks by its own name.
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*_LOOPBACK, "[::1]"])
    page = build(answers, uploads.folder)
    page.is_running = True  # without it Gradio looks at any file that a request names
    return gradio.mount_gradio_app(
        app, page, "/",
        footer_links=[], run_history=False, max_file_size=_LARGEST, ssr_mode=False,
        enable_monitoring=False, mcp_server=False, theme=_theme(gradio), css_paths=_HERE / "page.css",
        head=f"<script>{(_HERE / 'page.js').read_text()}</script>",
    )  # fmt: skip


def _theme(gradio):
    fonts = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Liberation Sans", "sans-serif"]
    return gradio.themes.Default(font=[gradio.themes.Font(name) for name in fonts])


class _Guarded:
    """Adds to each answer which places the browser may load from."""

    def __init__(self, app):
        self._app = app

    async def __call__(self, scope, receive, send):
        async def guarded(message):
            if message["type"] == "http.response.start":
                more = {b"content-security-policy": _POLICY.encode(), b"referrer-policy": b"no-referrer"}
                message = {**message, "headers": [*message.get("headers", ()), *more.items()]}
            await send(message)

        await self._app(scope, receive, guarded)


class _Bounded:
    """Refuses an upload that does not say its size, or for which the disk has no room."""

    def __init__(self, app, uploads: Uploads):
        self._app, self._uploads = app, uploads

    async def __call__(self, scope, receive, send):
        refused = self._refusal(scope) if scope["type"] == "http" and scope["method"] == "POST" else None
        await (refused or self._app)(scope, receive, send)

    def _refusal(self, scope):
        from starlette.responses import PlainTextResponse

        if not scope["path"].endswith("/upload"):
            return None
        size = dict(scope["headers"]).get(b"content-length", b"")
        if not size.isdigit():
            return PlainTextResponse("An upload must say its length.", 411)
        if not self._uploads.has_room_for(int(size)):
            return PlainTextResponse("The disk of this page has no room for these images: drop fewer.", 507)
        return None
