"""What hostile files must not do: touch a canary, write or read elsewhere, start a program, leave markup."""

import contextlib
import csv
import ctypes
import io
import json
import os
import re
import socket
import struct
import sys
import sysconfig
from html.parser import HTMLParser
from pathlib import Path

from PIL import Image

from benchmarks.hostile.texts import ATTRIBUTE, ELEMENT

MARK = "canary-c5f1"
ROOT = Path(__file__).parents[2]

_EVENTS = {0x1: "read", 0x2: "changed", 0x20: "opened", 0x40: "moved", 0x80: "moved", 0x100: "made", 0x200: "deleted"}
_FOLDER, _OVERFLOW = 0x40000000, 0x4000

# What may move a cursor or turn the writing round, of all but a line's end.
_CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
# Of every process of this machine, and harmless.
_SHARED = ("/dev/null", "/dev/shm")
_APART = ("datasets.apart.worker", "bach_keras.serving.bulk.decoder")  # the processes that decode apart
_PICKLED = ("datasets.duplicates.sketch", "numpy")  # the temporary file in which likenesses are looked for
_PROGRAMS = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "pty.spawn", "subprocess.Popen")
_CHANGES = (
    "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod",
)  # fmt: skip
_LOOKUPS = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")
_LOCAL = ("", "127.0.0.1", "::1", "localhost", "0.0.0.0", "::", socket.gethostname())
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


class Canaries:
    """Files that nothing may open, and a folder in which nothing may appear; the kernel says who did."""

    def __init__(self, place: Path):
        self.folder = place / "canary"
        self.folder.mkdir()
        (self.folder / "secret.txt").write_text(f"{MARK}\n")
        (self.folder / "secret.csv").write_text(f"path,label\n{MARK}.png,{MARK}\n")
        (self.folder / "secret.json").write_text(json.dumps({"node": MARK, MARK: MARK}))
        (self.folder / "secret.raw").write_bytes(MARK.encode() * 1000)
        Image.new("RGB", (64, 64), (200, 100, 150)).save(self.folder / "secret.png")
        self._write_h5()
        libc = ctypes.CDLL(None, use_errno=True)
        self._watch = libc.inotify_init1(os.O_NONBLOCK)
        if self._watch < 0 or libc.inotify_add_watch(self._watch, os.fsencode(self.folder), sum(_EVENTS)) < 0:
            raise OSError(ctypes.get_errno(), f"{self.folder} cannot be watched: {os.strerror(ctypes.get_errno())}")
        (self.folder / "secret.txt").read_text()
        if "secret.txt read" not in self.touched():
            raise RuntimeError(f"What is read in {self.folder} is not seen.")

    def _write_h5(self) -> None:
        import h5py

        with h5py.File(self.folder / "secret.h5", "w") as file:
            file["weight"] = [1.0, 2.0]
            file.attrs["note"] = MARK

    def touched(self) -> list[str]:
        """Return what was done to them since this was last asked."""
        found = set()
        with contextlib.suppress(BlockingIOError):
            while True:
                found |= _seen(os.read(self._watch, 2**16))
        return sorted(found)


def _seen(data: bytes) -> set[str]:
    """Return what the kernel says of a folder that is watched."""
    found, at = set(), 0
    while at < len(data):
        _, mask, _, length = struct.unpack_from("iIII", data, at)
        name = data[at + 16 : at + 16 + length].rstrip(b"\0").decode(errors="replace")
        at += 16 + length
        if not (mask & _FOLDER and mask & 0x21):  # a look into the folder itself
            found |= {f"{name} {words}" for bit, words in _EVENTS.items() if mask & bit}
        if mask & _OVERFLOW:
            found.add("more was done than can be listed")
    return found


class Guard:
    """Notes what Python code of this process opens, starts and connects to: the audit hook of a door's own process.

    What libraries in C do raises no such events, and a link that is opened counts as what it is called. Each finding is
    also written to a file at once, for a process that does not end well.
    """

    def __init__(self, place: Path, noted: Path):
        self._noted = os.open(noted, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
        self._writes = (*(str(place / name) for name in ("out", "home", "tmp")), *_SHARED)
        python = {
            sysconfig.get_paths()["purelib"],
            sys.prefix,
            sys.base_prefix,
            os.path.realpath(sys.prefix),
            str(ROOT),
        }
        self._reads = (str(place), *python, "/proc", "/sys", "/usr", "/lib", "/etc", "/dev/urandom", *_SHARED)
        self._forbidden = (str(place / "canary"), "/etc/passwd", "/etc/shadow", "/proc/self/environ", "/proc/self/mem")
        self.found: list[str] = []
        self._is_on = False
        sys.addaudithook(self._hook)

    def start(self) -> None:
        self._is_on = True

    def stop(self) -> None:
        self._is_on = False

    def taken(self) -> list[str]:
        """Return what was noted since this was last asked."""
        found, self.found = sorted(set(self.found)), []
        os.ftruncate(self._noted, 0)
        return found

    def _note(self, words: str) -> None:
        self.found.append(words)
        os.write(self._noted, f"{words}\n".encode(errors="backslashreplace"))

    def _hook(self, event, args):
        if not self._is_on:
            return
        if event == "open":
            self._opened(*args)
        elif event in _PROGRAMS and not any(name in str(args[1] if len(args) > 1 else "") for name in _APART):
            self._note(f"{event} {str(args)[:100]}")
        elif event == "pickle.find_class" and not str(args[0]).startswith(_PICKLED):
            self._note(f"unpickles {'.'.join(map(str, args))}")
        elif event in ("socket.connect", "socket.sendto") and not _is_local(args[1]):
            self._note(f"connects to {args[1]}")
        elif event in _LOOKUPS and not _is_local((args[0],)):
            self._note(f"looks up {args[0]}")
        elif event in _CHANGES:
            self._changed(event, args)

    def _changed(self, event, args):
        """Note what happens to a file or folder other than that it is opened."""
        paths = [each for each in args if isinstance(each, str | bytes | os.PathLike)]
        within = b"."
        if event in ("os.remove", "os.rmdir") and args[1] > 0:  # relative to a folder that is open
            within = os.readlink(b"/proc/self/fd/%d" % args[1])
        path = _full(os.path.join(within, os.fsencode(paths[-1]))) if paths else ""
        if path and not _is_within(path, self._writes):
            self._note(f"{event} {path}")

    def _opened(self, path, mode, flags):
        if not isinstance(path, str | bytes | os.PathLike):
            return  # a descriptor that is open already
        path = _full(path)
        is_written = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND))
        if is_written and not _is_within(path, self._writes):
            self._note(f"writes {path}")
        elif not _is_within(path, self._reads) or _is_within(path, self._forbidden):
            self._note(f"reads {path}")


def _full(path) -> str:
    return os.path.abspath(os.fsdecode(path))


def _is_within(path: str, places) -> bool:
    return any(path == place or path.startswith(place.rstrip(os.sep) + os.sep) for place in places)


def _is_local(address) -> bool:
    """Say whether an address, of which the first part is a host, is on this machine."""
    host = address[0] if isinstance(address, tuple) else None
    return host is None or os.fsdecode(host) in _LOCAL


def faults_of(form: str, text: str) -> list[str]:
    """Say what of an output would act on whoever looks at it.

    Args:
        form: terminal, json (an object a line), json file (one value), csv or html.
    """
    found = [f"{form} shows what is in a canary"] if MARK in text else []
    if form == "html":
        return found + _markup(text)
    if form == "csv":
        found += [f"csv begins a formula: {cell[:40]!r}" for cell in _cells(text) if _acts(cell)]
        text = text.replace("\r", "").replace("\t", "")  # in quotes, as its reader shows them
    elif form == "json":
        for line in filter(None, text.split("\n")):
            json.loads(line)
    elif form == "json file":
        json.loads(text)
    if control := _CONTROLS.search(text):
        found.append(f"{form} holds {control[0]!r}")
    return found


def _cells(text):
    return [cell for row in csv.reader(io.StringIO(text, newline="")) for cell in row]


def _acts(cell: str) -> bool:
    if not cell.startswith(_FORMULA):
        return False
    try:
        float(cell)
    except ValueError:
        return True
    return False


class _Parts(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        if tag.startswith(ELEMENT):
            self.found.append(f"html has the element {tag}")
        for name, value in attrs:
            if name == ATTRIBUTE:
                self.found.append(f"html has the attribute {name}")
            if name in ("href", "src", "action") and (value or "").strip().lower().startswith(("javascript:", "http:")):
                self.found.append(f"html leads to {value[:40]}")


def _markup(text: str) -> list[str]:
    parts = _Parts()
    parts.feed(text)
    parts.close()
    found = sorted(set(parts.found))
    control = _CONTROLS.search(text)
    return found + ([f"html holds {control[0]!r}"] if control else [])


def tree_of(folder: Path) -> dict[str, tuple]:
    """Return what is below a folder: path -> kind, and size and time of a file, so that moments can be compared."""
    found = {}
    for place, folders, files in os.walk(folder):
        for name in folders + files:
            path = os.path.join(place, name)
            status = os.lstat(path)
            is_file = name in files
            found[os.path.relpath(path, folder)] = (status.st_mode, *(status.st_size, status.st_mtime_ns) * is_file)
    return found
