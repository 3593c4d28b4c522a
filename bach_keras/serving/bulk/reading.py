"""Image files made ready for a model beside it: decoded in a process of their own, each within its time."""

import contextlib
import os
import select
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence

from bach_keras.evidence.ranges import values_of
from bach_keras.serving.bulk import decoder, files
from bach_keras.serving.bulk.plan import Looking, Seen
from bach_keras.serving.images import as_seen
from bach_keras.serving.judgement import Judgement
from datasets.apart import frames
from datasets.apart.child import Child, ending
from datasets.errors import UserError, WorkError
from datasets.images.admission import MAX_PIXELS

# Seconds that the rest of an answer may take, at least.
_REST = 10.0


class Decoder:
    """The process that decodes, started when it is first needed and again after it was ended.

    Args:
        folder: where it works, so that relative paths begin there.
        module: which module it runs.
    """

    def __init__(self, folder: str | None = None, module: str = decoder.__name__):
        self._folder, self._module = folder, module
        self._child = self._place = None

    def ask(self, question: tuple) -> None:
        """Ask it for an image, ``decoder.look``'s arguments; ``answer`` must follow."""
        if self._child is None:
            self._child = self._start()
        if files.is_url(question[0]):  # removed here, since that process may be ended before it has done so
            with files.of_this_machine():
                self._place = tempfile.mkdtemp(prefix="bulk-")
        with contextlib.suppress(OSError):  # it has ended, and ``answer`` says so
            self._child.send({"asked": question, "place": self._place})

    def answer(self, seconds: float, begun: float | None = None) -> dict:
        """Return what it answers; if that takes longer than so many seconds, it is ended, and that is an error.

        They count from ``begun``, of ``time.monotonic``; by default from now. A ``WorkError`` is raised where the
        machine failed, and not the file.
        """
        try:
            return self._answer(seconds, begun)
        finally:
            self._tidy()

    def _answer(self, seconds: float, begun: float | None) -> dict:
        late = {"error": f"was not read within {seconds:g} s: raise --time-limit, or look at the file"}
        passed = 0.0 if begun is None else time.monotonic() - begun
        if not select.select([self._child.answers], [], [], max(seconds - passed, 0.0))[0]:
            self.close()
            return late
        try:
            # An answer that has started is complete at once, unless code that a file brought in holds it back.
            with self._child.ended_after(max(seconds, _REST)):
                found = decoder.unpacked(*self._child.receive(3 * MAX_PIXELS))
        except frames.FrameError:
            self.close()
            return {"error": "misled the process that read it"}
        except (EOFError, OSError):
            code, is_late = self._child.exit_code(), self._child.is_late
            self.close()
            return late if is_late else {"error": f"ended the process that read it ({ending(code)})"}
        if "failed" in found:
            raise WorkError(found["failed"])
        return found

    def _start(self) -> Child:
        if self._folder is not None and not os.path.isdir(self._folder):
            raise WorkError(
                f"{self._folder}, where relative paths of the input begin, is not on machine {socket.gethostname()}. "
                "Give absolute paths or URLs that every machine of the cluster sees."
            )
        return Child(self._module, self._folder)

    def close(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None
        self._tidy()

    def _tidy(self) -> None:
        if self._place is not None:
            shutil.rmtree(self._place, ignore_errors=True)
            self._place = None


def read_files(paths: Sequence[str], looking: Looking, decodes: Decoder) -> Iterator[Seen]:
    """Yield each file as a model takes it, in order; while one is made ready the next is decoded."""
    last = None
    for path in paths:
        decodes.ask((path, looking.um_per_pixel, looking.icc == "apply"))
        begun = time.monotonic()
        if last is not None:
            yield _seen(*last, looking)
        last = path, decodes.answer(looking.time_limit, begun)
    if last is not None:
        yield _seen(*last, looking)


def _seen(path: str, found: dict, looking: Looking) -> Seen:
    file = {name: found.get(name) for name in ("digest", "bytes", "modified_ns")}
    if "error" in found:
        said = found["error"]
        return Seen(path, file, said if path in said else f"{path} {said}.")
    pixels, scale = found["pixels"], found["scale"]
    file |= {"height": pixels.shape[0], "width": pixels.shape[1]}
    judged = Judgement(looking.ranges, lambda path: scale).look(path, pixels)
    prepared = as_seen(pixels, looking.side, looking.views)
    return Seen(path, file, None, prepared, (scale, found["icc"], judged))


class Measured(Judgement):
    """Adds ``measured`` to what ``Judgement`` does: what the warnings are about."""

    def fields(self, path, row, looked, asked):
        fields = super().fields(path, row, looked, asked)
        values = looked and values_of(looked | {"features": row.get("distance")}, self._ranges)
        return fields | {"measured": values}


def answered(export, seen: Sequence[Seen], routing: str, extras) -> list[dict]:
    """Return a row for each image that ``read_files`` read; ``extras`` are those that ``Seen.looked`` is of."""
    from bach_keras.serving.predict import answer_seen

    given = [UserError(each.error) if each.error else (each.prepared, each.looked) for each in seen]
    rows = answer_seen(export, [each.path for each in seen], given, routing, extras)
    return [row | each.file for row, each in zip(rows, seen, strict=True)]
