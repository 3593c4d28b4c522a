"""How a command ended, and what of it breaks a promise."""

import csv
import io
import re
import signal
from dataclasses import dataclass

# The exit codes that a signal may end with; 0 where the command had finished, which its result must show.
_CODES = {
    "SIGKILL": (0, -signal.SIGKILL),
    "SIGINT": (0, 128 + signal.SIGINT),
    "SIGTERM": (0, 128 + signal.SIGTERM),
}
_WITHOUT_SIGNAL = (0, 1, 2)
# How many files a command may still change that was at its end when the signal came: its lock, and what was temporary.
_LAST = 2


@dataclass(frozen=True)
class Ended:
    """How a command ended; ``code`` is minus the signal's number of one that was killed, None of one that hung."""

    code: int | None
    said: str  # on stderr
    answer: str  # on stdout
    seconds: float  # of processor time; 0 of one that was killed
    changes: tuple[str, ...]  # of files, in order
    left: tuple[str, ...] = ()  # processes and temporary files
    is_planted: bool = False  # the process has noted that its fault has come
    after: int = 0  # how many of the changes came after it

    @property
    def is_fine(self) -> bool:
        return self.code == 0

    def complaint(self, fault: str = "", usual: frozenset[str] = frozenset()) -> str:
        """Return what is wrong with how it ended under a fault: "" where it succeeded, or said in one sentence why not.

        Args:
            usual: lines that the command prints undisturbed, as ``lines`` returns them.
        """
        if self.code is None:
            return "it hangs"
        if "Traceback" in self.said or "Traceback" in self.answer:
            return f"a traceback: {self._last}"
        if self.code not in _CODES.get(fault, _WITHOUT_SIGNAL):
            return f"it ended with {self.code}: {self._last}"
        if fault in ("SIGINT", "SIGTERM") and self.is_fine and self.after > _LAST:
            return f"it went on after the signal, with {self.after} changes"
        return self._of_words(usual) if self.code > 0 else ""

    def _of_words(self, usual) -> str:
        if not self.sentence:
            return f"no sentence at exit code {self.code}: {self._last}"
        more = self._beside(usual)
        return f"{len(more)} lines beside its sentence: {more[0][:200]}" if more else ""

    @property
    def _last(self) -> str:
        return (self.said.strip().splitlines() or ["nothing was said"])[-1][:300]

    @property
    def sentence(self) -> str:
        """The line that says why it did not succeed; where some inputs failed, the answer about the first of them."""
        return next(iter([*self._sentences(), *self._failed()]), "")

    def _sentences(self) -> list[str]:
        begins = "Interrupted" if self.code and self.code > 2 else "Error:"
        return [line for line in self.said.splitlines() if line.startswith(begins)]

    def _failed(self) -> list[str]:
        if self.code != 1:
            return []
        rows = csv.DictReader(io.StringIO(self.answer))
        if "error" in (rows.fieldnames or ()):
            return [row["error"] for row in rows if row["error"]]
        return [line for line in self.answer.splitlines() if "error" in line.lower()]

    def _beside(self, usual) -> list[str]:
        """Return the lines on stderr other than one sentence and the usual ones."""
        more = [line for line in _split(self.said) if _shape(line) not in usual]
        for line in self._sentences()[:1]:
            more.remove(line.strip())
        # How many inputs failed may be said beside the answers about them.
        return more if self._sentences() else more[1:]

    @property
    def lines(self) -> frozenset[str]:
        """What was said on stderr, without its numbers."""
        return frozenset(map(_shape, _split(self.said)))


def _split(text: str) -> list[str]:
    return [line.strip() for line in re.split(r"[\r\n]", text) if line.strip()]


def _shape(line: str) -> str:
    return re.sub(r"\d[\d.,:]*", "0", line)
