"""One try: a command meets a fault, and is then given again as its user would."""

import contextlib
import os
import shutil
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.faults import place
from benchmarks.faults.child import MARK, Order
from benchmarks.faults.commands import Command

# Seconds after which a command hangs, and in which the processes that it started must have ended.
HANGS, ENDS = 240.0, 20.0
# How often a user would follow what a command says before asking for help.
_TIMES = 3


@dataclass(frozen=True)
class Ended:
    """How a command ended; ``code`` is minus the signal's number of one that was killed, None of one that hung."""

    code: int | None
    said: str  # on stderr
    answer: str  # on stdout
    seconds: float  # of processor time; 0 of one that was killed
    changes: tuple[str, ...]  # of files, in order
    left: tuple[str, ...] = ()  # processes and temporary files

    @property
    def is_fine(self) -> bool:
        return self.code == 0

    @property
    def complaint(self) -> str:
        """What is wrong with how it ended: "" where it succeeded, or said in one sentence why not."""
        if self.code is None:
            return "it hangs"
        if "Traceback" in self.said or "Traceback" in self.answer:
            return f"a traceback: {self._last}"
        if self.code not in (0, 1, 2, 128 + signal.SIGINT, 128 + signal.SIGTERM):
            return f"it ended with {self.code}: {self._last}"
        if self.code and not self.sentence:
            return f"no sentence at exit code {self.code}: {self._last}"
        return ""

    @property
    def _last(self) -> str:
        return (self.said.strip().splitlines() or ["nothing was said"])[-1][:300]

    @property
    def sentence(self) -> str:
        begins = "Interrupted" if self.code and self.code > 2 else "Error:"
        found = [line for line in self.said.splitlines() if line.startswith(begins)]
        # Where some inputs failed, the answers say which.
        found += [line for line in self.answer.splitlines() if self.code == 1 and "error" in line.lower()]
        return next(iter(found), "")


@dataclass
class Outcome:
    """What became of a try; each complaint is a sentence, "" where all is well."""

    command: str
    fault: str
    detail: str
    said: str = ""
    finishes: str = ""
    equals: str = ""
    clean: str = ""
    sentence: str = ""
    seconds: float = field(default=0.0)

    @property
    def complaints(self) -> list[str]:
        return [each for each in (self.said, self.finishes, self.equals, self.clean) if each]


class Shop:
    """Gives commands, each in a process of its own, in a folder that is the same for all tries."""

    def __init__(self, folder: Path):
        import multiprocessing

        self.base, self.folder, self._logs = folder / "base", folder / "try", folder / "log"
        self.base.mkdir(parents=True)
        self._count = 0
        # Each command is forked from a process that has imported TensorFlow but not used it.
        self._processes = multiprocessing.get_context("forkserver")
        self._processes.set_forkserver_preload(["benchmarks.faults.child"])

    def lay_out(self, command: Command) -> None:
        """Make the folder of the next try: what the command needs, and nothing else."""
        if self.folder.is_dir() and not os.path.ismount(self.folder):
            shutil.rmtree(self.folder)
        self.folder.mkdir(exist_ok=True)
        for name in command.needs:
            source, target = self.base / name, self.folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(source, target) if source.is_dir() else shutil.copy2(source, target)

    def start(self, words, folder: Path | None = None, **fault) -> "Started":
        from benchmarks.faults.child import obey

        self._count += 1
        log = self._logs / str(self._count)
        log.mkdir(parents=True)
        order = Order(tuple(words), folder or self.folder, log, **fault)
        process = self._processes.Process(target=obey, args=(order,))
        process.start()
        return Started(process, log)

    def must(self, words) -> None:
        """Give a command in the base.

        Raises:
            RuntimeError: it failed.
        """
        ended = self.give(words, self.base)
        if not ended.is_fine:
            raise RuntimeError(f"{' '.join(words)} ends with {ended.code}: {ended.said[-2000:]}")

    def give(self, words, folder: Path | None = None, **fault) -> Ended:
        return self.start(words, folder, **fault).ended()


class Started:
    """A command that runs."""

    def __init__(self, process, log: Path):
        self._process, self._log = process, log

    def ended(self) -> Ended:
        self._process.join(HANGS)
        hangs = self._process.is_alive()
        if hangs:
            self._process.kill()
            self._process.join()
        left = self._left_behind()
        files = [self._read(name) for name in ("stderr", "stdout", "changes", "cost")]
        code = None if hangs else self._process.exitcode
        return Ended(code, files[0], files[1], float(files[3] or 0), tuple(files[2].splitlines()), left)

    def _read(self, name: str) -> str:
        path = self._log / name
        return path.read_text(errors="replace") if path.is_file() else ""

    def _left_behind(self) -> tuple[str, ...]:
        until = time.monotonic() + ENDS
        while (found := self._processes()) and time.monotonic() < until:
            time.sleep(0.1)
        for number in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        # Ray keeps the logs of its sessions, and TensorFlow's workers, when Ray ends them, their generated sources.
        kept = ("ray", "__autograph_generated_file")
        temporary = [path.name for path in (self._log / "tmp").glob("*") if not path.name.startswith(kept)]
        return (*(f"process {name}" for name in found.values()), *(f"temporary {name}" for name in temporary))

    def _processes(self) -> dict[int, str]:
        """Return the processes that still run of those that it started, with their command lines."""
        mark, found = f"{MARK}={self._log}\0".encode(), {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (folder / "environ").read_bytes() + b"\0":
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:80]
        return found


@dataclass(frozen=True)
class Whole:
    """What a command does undisturbed."""

    contents: dict[str, str]
    names: set[str]
    answer: str
    seconds: float
    changes: int
    bytes: int  # that it adds
    largest: int  # of the files that it adds


def undisturbed(shop: Shop, command: Command) -> Whole:
    """Run a command without a fault.

    Raises:
        RuntimeError: it failed.
    """
    shop.lay_out(command)
    before, there = place.size_of(shop.folder), place.names_in(shop.folder)
    ended = shop.give(command.words)
    if not ended.is_fine or ended.left:
        raise RuntimeError(f"{command.name} ends with {ended.code} undisturbed: {ended.said[-2000:]} {ended.left}")
    names = place.names_in(shop.folder)
    sizes = [path.stat().st_size for path in map(shop.folder.joinpath, names - there) if path.is_file()]
    added = place.size_of(shop.folder) - before
    found = place.contents(shop.folder, command.makes)
    return Whole(found, names, ended.answer, ended.seconds, len(ended.changes), added, max(sizes, default=0))


def again(shop: Shop, command: Command) -> tuple[Ended, str]:
    """Give a command again, or as its own sentence says, until it ends well; return the end and a complaint."""
    words, said = command.words, []
    for _ in range(_TIMES):
        ended = shop.give(words)
        if ended.is_fine or "nothing to resume" in ended.sentence:
            return ended, ""
        said.append(ended.complaint or ended.sentence)
        if ended.complaint:
            break
        words = _next_words(command, ended.sentence, words)
    return ended, " / ".join(said)


def _next_words(command: Command, sentence: str, words):
    if "--again changed" in sentence:
        return (*command.words, "--again", "changed")
    if "--overwrite" in sentence and "--resume" not in sentence:
        return command.over
    return command.resume if command.resume and words != command.resume else command.over


def judge(shop: Shop, command: Command, whole: Whole, outcome: Outcome, ended: Ended | None) -> Outcome:
    """Give the command again after a fault, and compare what is there with the undisturbed one."""
    was_killed = outcome.fault == "SIGKILL"
    if ended is not None:
        outcome.said = "" if was_killed and ended.code == -signal.SIGKILL else ended.complaint
        outcome.sentence = ended.sentence
        if processes := [each for each in ended.left if not was_killed or each.startswith("process")]:
            outcome.clean = f"left: {', '.join(processes)}"
    if ended is not None and not ended.is_fine and _is_untouched(shop, command):
        return outcome  # given again, it is the undisturbed one
    last = ended
    if ended is None or not ended.is_fine:
        last, outcome.finishes = again(shop, command)
    if outcome.finishes:
        return outcome
    outcome.equals = _differences(shop, command, whole, last)
    if more := place.names_in(shop.folder) - whole.names:
        outcome.clean = " ".join(filter(None, [outcome.clean, f"left: {', '.join(sorted(more)[:3])}"]))
    return outcome


def _is_untouched(shop: Shop, command: Command) -> bool:
    """Say whether the folder of the try holds what the command needs, byte for byte, and nothing else."""
    there = place.digests(shop.folder)
    return there == {name: digest for each in command.needs for name, digest in place.digests(shop.base, each).items()}


def _differences(shop: Shop, command: Command, whole: Whole, last: Ended) -> str:
    found = place.contents(shop.folder, command.makes)
    differ = [
        name for name in sorted(found.keys() | whole.contents.keys()) if found.get(name) != whole.contents.get(name)
    ]
    if command.name == "predict" and last.answer != whole.answer:
        differ.append("what it prints")
    return f"not equal: {', '.join(differ[:4])}" if differ else ""
