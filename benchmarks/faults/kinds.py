"""The faults of the campaign, and at which moments, and in which files, each one comes."""

import functools
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.faults import place
from benchmarks.faults.commands import Command
from benchmarks.faults.ended import Ended
from benchmarks.faults.tries import Outcome, Runner, Undisturbed, judge

FAULTS = (
    "SIGKILL", "SIGINT", "SIGTERM", "full disk", "read-only folder", "two at once", "clock goes back", "no file locks",
    "damaged input", "damaged leftovers",
)  # fmt: skip
_SIGNALS = {"SIGKILL": (5, 1), "SIGINT": (2, 1), "SIGTERM": (2, 1)}  # how often before a change, and at a moment
_ROOM = (0.1, 0.7)  # shares of what the command adds that a full disk still takes
_FUTURE = 10 * 24 * 3600.0
_MOST_FILES = 12  # that are damaged of what a command needs, and a third of them of what it leaves
# How a command ended, if it was given, and whether there is evidence that its fault has come.
Met = tuple[Ended | None, bool]


@dataclass(frozen=True)
class Try:
    """A fault, and what brings it about: ``act`` gives the command, and returns how it met the fault."""

    fault: str
    detail: str
    act: Callable[[Runner], Met]

    def run(self, runner: Runner, command: Command, whole: Undisturbed) -> Outcome:
        outcome = Outcome(command.name, self.fault, self.detail)
        started = time.monotonic()
        runner.lay_out(command)
        ended, outcome.is_planted = self.act(runner)
        outcome.detail += f" {runner.damaged}" * bool(runner.damaged)
        judge(runner, command, whole, outcome, ended)
        outcome.seconds = time.monotonic() - started
        return outcome


def tries(command: Command, whole: Undisturbed, is_quick: bool, mounts: bool) -> Iterator[Try]:
    """Yield what is tried of a command; ``mounts`` says whether disks can be made.

    A command that replaces what is there meets only the faults that may cost what is there.
    """
    share = 2 if is_quick or command.is_slow else 1
    for name, (changes, moments) in _SIGNALS.items():
        yield from _stopped(command, whole, name, (changes // share, 0 if is_quick else moments))
    yield from _full_disk(command, whole, mounts, _ROOM[1:] if is_quick else _ROOM)
    yield Try("read-only folder", "", lambda runner: _read_only(runner, command, mounts))
    yield Try("two at once", "", lambda runner: _twice(runner, command, whole))
    if command.old:
        return
    yield Try("clock goes back", "a day, and files of the future", lambda runner: _clock(runner, command, whole))
    yield Try("no file locks", "", lambda runner: _noted(runner.give(command.words, has_locks=False)))
    yield from _damaged_needs(command, _MOST_FILES // (3 * share) if is_quick else _MOST_FILES // share)
    yield from _damaged_leftovers(command, whole, 1 if is_quick else _MOST_FILES // (3 * share))


def _stopped(command: Command, whole: Undisturbed, name: str, counts) -> Iterator[Try]:
    number = getattr(signal, name)
    for change in _spread(whole.changes, counts[0]):
        yield Try(name, f"before change {change} of {whole.changes}",
                  lambda runner, change=change: _noted(runner.give(command.words, stop=(change, number))))  # fmt: skip
    for part in _spread(100, counts[1]):
        moment = whole.seconds * part / 100, number
        yield Try(name, f"at {part} % of the time",
                  lambda runner, moment=moment: _noted(runner.give(command.words, moment=moment)))  # fmt: skip


def _noted(ended: Ended) -> Met:
    return ended, ended.is_planted


def _spread(length: int, count: int) -> list[int]:
    """Return some numbers from 1 to a length, spread evenly, the last ones included where there are several."""
    return sorted({max(1, round(length * (place + 1) / (count + (count == 1)))) for place in range(count)})


def _full_disk(command: Command, whole: Undisturbed, mounts: bool, shares) -> Iterator[Try]:
    for share in shares:
        if mounts:
            room = int(share * whole.bytes)
            yield Try("full disk", f"room for {share:.0%}",
                      lambda runner, room=room: _in_little_room(runner, command, room))  # fmt: skip
        else:
            most = int(share * whole.largest)
            yield Try("full disk", f"no file above {most} bytes",
                      lambda runner, most=most: _limited(runner.give(command.words, most_bytes=most)))  # fmt: skip


def _limited(ended: Ended) -> Met:
    return ended, not ended.is_fine  # where it succeeds, nothing says that it has met the limit


def _in_little_room(runner: Runner, command: Command, room: int) -> Met:
    shutil.rmtree(runner.folder)
    with place.Disk(runner.folder) as disk:
        runner.lay_out(command)
        disk.leave(room)
        ended = runner.give(command.words)
        return ended, disk.is_full or not ended.is_fine


def _read_only(runner: Runner, command: Command, mounts: bool) -> Met:
    if not mounts:
        with place.protected(runner.folder):
            is_protected = place.is_protected(runner.folder)
            return runner.give(command.words), is_protected
    shutil.rmtree(runner.folder)
    with place.Disk(runner.folder) as disk:
        runner.lay_out(command)
        disk.protect()
        is_protected = place.is_protected(runner.folder)
        return runner.give(command.words), is_protected


def _clock(runner: Runner, command: Command, whole: Undisturbed) -> Met:
    future, dated = time.time() + _FUTURE, {path for name in command.dated for path in _files(runner.folder, name)}
    for path in set(runner.folder.rglob("*")) - dated:
        os.utime(path, (future, future))
    return _noted(runner.give(command.words, clock=whole.seconds / 2))


def _twice(runner: Runner, command: Command, whole: Undisturbed) -> Met:
    both = [runner.start(command.words) for _ in range(2)]
    are_two = all(each.is_running for each in both)
    ends = [each.ended() for each in both]
    wrong = [end for end in ends if end.complaint(usual=whole.usual) or end.left]
    return next(iter(wrong), next((end for end in ends if end.is_fine), ends[0])), are_two


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES = {
    "a flipped bit": _flip,
    "cut in half": _truncate,
    "empty": lambda path: path.write_bytes(b""),
    "a folder": _make_folder,
}


def _damage(path: Path, kind: str) -> bool:
    """Damage a file; return whether it is another now."""
    before = path.read_bytes()
    DAMAGES[kind](path)
    return path.is_dir() or path.read_bytes() != before


def _kind(number: int) -> str:
    """Return a kind of damage; after each round of them the next begins with another, so that few files get all."""
    return list(DAMAGES)[(number + number // len(DAMAGES)) % len(DAMAGES)]


def _damaged_needs(command: Command, most: int) -> Iterator[Try]:
    """Damage what the command reads, each file in another way, and put it back before the command is given again."""
    for number in range(most if command.needs else 0):
        kind = _kind(number)
        yield Try("damaged input", f"{number}: {kind}",
                  lambda runner, number=number, kind=kind: _with_damage(runner, command, number, kind))  # fmt: skip


def _with_damage(runner: Runner, command: Command, number: int, kind: str) -> Met:
    found = sorted({path for name in command.damages or command.needs for path in _files(runner.folder, name)})
    if not found:
        return None, False
    path = found[number * max(1, len(found) // _MOST_FILES) % len(found)]
    kept = runner.folder.with_name("kept")
    shutil.copy2(path, kept)
    is_damaged, runner.damaged = _damage(path, kind), str(path.relative_to(runner.folder))
    ended = runner.give(command.words)
    path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
    kept.replace(path)
    return ended, is_damaged


def _files(folder: Path, name: str) -> list[Path]:
    found = [each for place in folder.glob(name) for each in (place.rglob("*") if place.is_dir() else [place])]
    return [path for path in found if path.is_file()]


def _damaged_leftovers(command: Command, whole: Undisturbed, most: int) -> Iterator[Try]:
    """Kill the command when it has done most, damage what it has left, and give it again."""
    for number in range(most):
        kind = _kind(number + 1)
        act = functools.partial(_damage_leftovers, command=command, whole=whole, number=number, kind=kind)
        yield Try("damaged leftovers", f"{number}: {kind}", act)


def _damage_leftovers(runner: Runner, command: Command, whole: Undisturbed, number: int, kind: str) -> Met:
    killed = runner.give(command.words, stop=(max(1, whole.changes * 4 // 5), signal.SIGKILL))
    left = [
        path for name in sorted(place.names_in(runner.folder) - runner.laid) if (path := runner.folder / name).is_file()
    ]
    if not left:
        return None, False
    path = left[number * max(1, len(left) // 4) % len(left)]
    is_damaged, runner.damaged = _damage(path, kind), str(path.relative_to(runner.folder))
    return None, is_damaged and killed.is_planted
