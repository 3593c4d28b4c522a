"""One try: a command meets a fault, and is then given again as its user would."""

import contextlib
import os
import shutil
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.faults import place
from benchmarks.faults.child import MARK, PLANTED, Invocation
from benchmarks.faults.commands import OLD, Command
from benchmarks.faults.contents import UNREADABLE, contents
from benchmarks.faults.ended import Ended

# Seconds after which a command hangs, and in which the processes that it started must have ended.
HANGS, ENDS = 240.0, 20.0
# How often a user would follow what a command says before asking for help.
_TIMES = 3


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
    is_planted: bool = True  # there is evidence that the fault has come
    is_untouched: bool = False  # all was as before, so that to give the command again would be the undisturbed one

    @property
    def complaints(self) -> list[str]:
        return [each for each in (self.said, self.finishes, self.equals, self.clean) if each]


class Runner:
    """Gives commands, each in a process of its own, in a folder that is the same for all tries."""

    def __init__(self, folder: Path):
        import multiprocessing

        self.base, self.folder, self._logs = folder / "base", folder / "try", folder / "log"
        self.base.mkdir(parents=True)
        self._count = 0
        self.laid: set[str] = set()  # names of what is there before a command
        self.damaged = ""  # the file that is damaged in this try
        # Each command is forked from a process that has imported TensorFlow but not used it.
        self._processes = multiprocessing.get_context("forkserver")
        self._processes.set_forkserver_preload(["benchmarks.faults.child"])

    def lay_out(self, command: Command) -> None:
        """Make the folder of the next try: what the command needs, and nothing else."""
        if self.folder.is_dir() and not os.path.ismount(self.folder):
            shutil.rmtree(self.folder)
        self.folder.mkdir(exist_ok=True)
        for name, source in self.sources(command).items():
            target = self.folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(source / name, target) if (source / name).is_dir() else shutil.copy2(source / name, target)
        self.laid, self.damaged = place.names_in(self.folder), ""

    def sources(self, command: Command) -> dict[str, Path]:
        """Return what is there before a command: name -> the folder that has a copy of it."""
        return dict.fromkeys(command.needs, self.base) | dict.fromkeys(command.old, self.base / OLD)

    def digests(self, command: Command, names) -> dict[str, str]:
        """Return the digests of what is there before a command, or of some of it."""
        sources = self.sources(command)
        return {file: digest for name in names for file, digest in place.digests(sources[name], name).items()}

    def start(self, words, folder: Path | None = None, **fault) -> "Started":
        from benchmarks.faults.child import execute

        self._count += 1
        log = self._logs / str(self._count)
        log.mkdir(parents=True)
        invocation = Invocation(tuple(words), folder or self.folder, log, **fault)
        process = self._processes.Process(target=execute, args=(invocation,))
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
        seconds, changes, planted = float(files[3] or 0), tuple(files[2].splitlines()), self._read(PLANTED)
        return Ended(code, files[0], files[1], seconds, changes, left, bool(planted), len(changes) - int(planted or 0))

    @property
    def is_running(self) -> bool:
        return self._process.is_alive()

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
class Undisturbed:
    """What a command does undisturbed."""

    contents: dict[str, str]
    old: dict[str, str]  # the contents of what it replaces
    names: set[str]
    answer: str
    usual: frozenset[str]  # lines that it prints on stderr
    seconds: float
    changes: int
    bytes: int  # that it writes
    largest: int  # of the files that it writes


def undisturbed(runner: Runner, command: Command) -> Undisturbed:
    """Run a command without a fault.

    Raises:
        RuntimeError: it failed, what it made cannot be read, or what it replaces is the same.
    """
    runner.lay_out(command)
    old = contents(runner.folder, command.old)
    ended = runner.give(command.words)
    if not ended.is_fine or ended.left:
        raise RuntimeError(f"{command.name} ends with {ended.code} undisturbed: {ended.said[-2000:]} {ended.left}")
    names, found = place.names_in(runner.folder), contents(runner.folder, command.makes)
    if bad := [f"{name} is {digest}" for name, digest in found.items() if digest.startswith(UNREADABLE)]:
        raise RuntimeError(f"{command.name}, undisturbed: {'; '.join(bad)}")
    if command.old and old == found:
        raise RuntimeError(f"{command.name}: what is there before it is what it makes")
    written = names - runner.laid if not command.old else found
    sizes = [path.stat().st_size for path in map(runner.folder.joinpath, written) if path.is_file()]
    return Undisturbed(found, old, names, ended.answer, ended.lines, ended.seconds, len(ended.changes), sum(sizes),
                 max(sizes, default=0))  # fmt: skip


def rerun(runner: Runner, command: Command, whole: Undisturbed) -> tuple[Ended, str]:
    """Give a command again, or as its own sentence says, until it ends well; return the end and a complaint."""
    words, said = command.words, []
    for _ in range(_TIMES):
        ended = runner.give(words)
        # What was killed after its last change had finished; whether it had, what is there must show.
        if ended.is_fine or "nothing to resume" in ended.sentence:
            return ended, ""
        complaint = ended.complaint(usual=whole.usual)
        said.append(complaint or ended.sentence)
        if complaint:
            break
        words = _next_words(command, ended.sentence, words)
    return ended, " / ".join(said)


def _next_words(command: Command, sentence: str, words):
    """Return the command as a sentence names it; where it names none, as it was given."""
    if "--again changed" in sentence:
        return (*command.words, "--again", "changed")
    if "--resume" in sentence and command.resume and words != command.resume:
        return command.resume
    return command.over if "--overwrite" in sentence else words


def judge(runner: Runner, command: Command, whole: Undisturbed, outcome: Outcome, ended: Ended | None) -> Outcome:
    """Give the command again after a fault, and compare what is there with the undisturbed one."""
    was_killed = outcome.fault == "SIGKILL"
    if ended is not None:
        outcome.said, outcome.sentence = ended.complaint(outcome.fault, whole.usual), ended.sentence
        if processes := [each for each in ended.left if not was_killed or each.startswith("process")]:
            outcome.clean = f"left: {', '.join(processes)}"
    if ended is not None and not ended.is_fine and _is_untouched(runner, command):
        outcome.is_untouched = True
        return outcome
    outcome.equals = _lost(runner, command, whole)
    last = ended
    if ended is None or not ended.is_fine:
        last, outcome.finishes = rerun(runner, command, whole)
    if outcome.finishes:
        return outcome
    outcome.equals = outcome.equals or _differences(runner, command, whole, last)
    if more := place.names_in(runner.folder) - whole.names:
        outcome.clean = " ".join(filter(None, [outcome.clean, f"left: {', '.join(sorted(more)[:3])}"]))
    return outcome


def _is_untouched(runner: Runner, command: Command) -> bool:
    """Say whether the folder of the try holds what was there before the command, byte for byte, and nothing else."""
    if place.names_in(runner.folder) != runner.laid:
        return False
    return place.digests(runner.folder) == runner.digests(command, runner.sources(command))


def _lost(runner: Runner, command: Command, whole: Undisturbed) -> str:
    """Say what of a result that was there is neither kept nor replaced completely; "" where all is."""
    found = contents(runner.folder, command.old)
    if command.replaces_at_once:
        is_kept, is_new = (each.items() <= found.items() for each in (whole.old, whole.contents))
        lost = [] if is_kept or is_new else list(whole.old)
    else:
        lost = [name for name, digest in whole.old.items() if found.get(name) not in (digest, whole.contents.get(name))]
    return f"neither kept nor replaced: {', '.join(lost[:4])}" if lost else ""


def _differences(runner: Runner, command: Command, whole: Undisturbed, last: Ended) -> str:
    found = contents(runner.folder, command.makes)
    differ = [
        name for name in sorted(found.keys() | whole.contents.keys()) if found.get(name) != whole.contents.get(name)
    ]
    if command.name == "predict" and last.answer != whole.answer:
        differ.append("what it prints")
    for name in sorted(set(command.needs) - set(command.makes)):
        there, was = place.digests(runner.folder, name), runner.digests(command, [name])
        differ += [f"its input {file}" for file, digest in was.items() if there.get(file) != digest]
    return f"not equal: {', '.join(differ[:4])}" if differ else ""
