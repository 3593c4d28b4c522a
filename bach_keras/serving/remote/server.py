"""A small server for development: TF Serving's REST paths and its PredictionService, over one export."""

import logging
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import grpc

from bach_keras.serving.address import NAME, Address, cannot_listen
from bach_keras.serving.exported import Export
from bach_keras.serving.remote import rest, rpc
from bach_keras.serving.remote.http1 import Listener
from bach_keras.serving.remote.servable import Servable

LOG = logging.getLogger(__name__)

# How many requests the two listeners together answer at once.
AT_ONCE = 4

# Seconds that a request may still take when the server stops.
GRACE = 5


class Server:
    """The two listeners, each on a free port if its own is 0; a context manager that starts and stops them."""

    def __init__(self, export: Export, name: str = NAME, host: str = "127.0.0.1", port: int = 0, grpc_port: int = 0):
        # Both listeners share the slots, so that the processor has the same work over either.
        servable, slots = Servable(export, name), threading.Semaphore(AT_ONCE)
        place = f"[{host}]" if ":" in host else host
        try:
            self._http = Listener(host, port, partial(rest.answer, servable, slots), rest.MAX_BODY)
        except OSError as error:
            raise cannot_listen(host, port, "--port", error) from error
        self._grpc = grpc.server(
            ThreadPoolExecutor(rpc.CALLS, "grpc"),
            [rpc.handlers(servable, slots)],
            options=rpc.limits(rest.MAX_BODY),
            maximum_concurrent_rpcs=rpc.WAITING,
        )
        try:
            grpc_port = self._grpc.add_insecure_port(f"{place}:{grpc_port}")
        except RuntimeError as error:
            self._http.server_close()
            raise cannot_listen(host, grpc_port, "--grpc-port") from error
        self.rest_url = f"http://{place}:{self._http.server_address[1]}"
        self.grpc_url = f"grpc://{place}:{grpc_port}"
        self.place = f"{Address(name).path}/versions/{servable.version}"

    def __enter__(self):
        self._grpc.start()
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.1,), name="rest")
        self._thread.start()
        return self

    def __exit__(self, *exception):
        ended = self._grpc.stop(GRACE)  # does not wait, so the grace of both runs at the same time
        self._http.stop(GRACE)
        self._thread.join()
        ended.wait()

    def serve(self) -> None:
        """Answer until SIGINT or SIGTERM, then let requests under way end."""
        stopped = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopped.set())
        with self:
            LOG.info(f"serving {self.place} at {self.rest_url} and {self.grpc_url} for development; Ctrl-C stops it")
            stopped.wait()
