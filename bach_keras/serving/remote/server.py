"""A small server for development: TF Serving's REST paths and its PredictionService, over one export."""

import contextlib
import logging
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import grpc

from bach_keras.serving.address import NAME, Address, cannot_listen
from bach_keras.serving.exported import Export
from bach_keras.serving.remote import rest, rpc
from bach_keras.serving.remote.admission import Admission
from bach_keras.serving.remote.http1 import Listener
from bach_keras.serving.remote.servable import Servable
from bach_keras.serving.remote.state import State
from bach_keras.signals import wait_for_signal
from bach_keras.wording import counted
from datasets.errors import WorkError

LOG = logging.getLogger(__name__)

# How many requests the two listeners together answer at once.
AT_ONCE = 4

# Seconds until all that was accepted must be answered when the server stops, and then until clients have taken it.
ANSWER = 120
GRACE = 5


class Server:
    """The two listeners, each on a free port if its own is 0; a context manager that starts and stops them."""

    def __init__(self, export: Export, name: str = NAME, host: str = "127.0.0.1", port: int = 0, grpc_port: int = 0):
        # Both listeners share the admission, so that the processor has the same work over either.
        servable, self._admission = Servable(export, name), Admission(AT_ONCE)
        self._state = State(servable, self._admission)
        place = f"[{host}]" if ":" in host else host
        try:
            self._http = Listener(host, port, partial(rest.answer, servable, self._admission), rest.MAX_BODY)
        except OSError as error:
            raise cannot_listen(host, port, "--port", error) from error
        self._grpc = grpc.server(
            ThreadPoolExecutor(rpc.CALLS, "grpc"),
            [self._state, rpc.Predictions(servable, self._admission, self._state.refusals)],
            options=rpc.limits(rest.MAX_BODY),
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
        self.stop()

    def stop(self) -> None:
        """Refuse what is new, answer what was accepted, and end; a WorkError says how much had no answer in time."""
        count = self._admission.close()
        more = f": {counted(count, 'request')} under way will be answered first" if count else ""
        with contextlib.suppress(OSError):  # whoever read the lines may have gone, and the server must stop
            LOG.info(f"stopping{more}")
        self._state.stop()
        self._http.close()
        left = self._admission.wait(ANSWER)
        self._state.end()
        ended = self._grpc.stop(GRACE)  # does not wait, so the grace of both runs at the same time
        self._http.stop(GRACE)
        self._thread.join()
        ended.wait()
        if left:
            raise WorkError(f"{counted(left, 'request')} had no answer within {ANSWER} s when the server was stopped.")

    def serve(self) -> None:
        """Answer until SIGINT or SIGTERM, then answer what was accepted; a second signal ends the process at once."""
        stopped = threading.Event()
        numbers = (signal.SIGINT, signal.SIGTERM)

        def stop(*_):
            for number in numbers:
                signal.signal(number, signal.SIG_DFL)
            stopped.set()

        for number in numbers:
            signal.signal(number, stop)
        with self:
            LOG.info(f"serving {self.place} at {self.rest_url} and {self.grpc_url} for development; Ctrl-C stops it")
            wait_for_signal(stopped)
