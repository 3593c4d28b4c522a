"""What the environment says: locale, clock, proxies, and variables that change what TensorFlow and Keras do."""

import datetime
import locale
import os
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from urllib.parse import urlsplit

from bach_keras.doctor.finding import ROOT, Asked, Finding, failed, passed, warned
from bach_keras.packed_kernels import SWITCH
from datasets.data_root import data_root

# No clock that is right is before this: the packages that are pinned are of that month.
EARLIEST = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
LATEST = datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC)
# A file may be this many seconds ahead: the clock of a network disk is another one.
_AHEAD = 120
_MOST_FILES = 5000

# How the clock stood when this process began: it should run as time itself does.
_BEGAN = time.monotonic() - time.time()

_PROXIES = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "grpc_proxy")
_OWN_NAMES = ("localhost", "127.0.0.1")


def text(asked: Asked) -> Finding:
    """Say whether names and output in any script can be read and written."""
    names, output = sys.getfilesystemencoding(), getattr(sys.stdout, "encoding", None) or "utf-8"
    wrong = [f"{what} in {given}" for what, given in (("file names", names), ("output", output)) if not _is_utf8(given)]
    if wrong:
        return warned(
            "locale", f"{' and '.join(wrong)}: names outside ASCII are misread",
            "`export LC_ALL=C.UTF-8`, and unset PYTHONIOENCODING, PYTHONUTF8 and PYTHONCOERCECLOCALE",
        )  # fmt: skip
    return passed("locale", f"{locale.setlocale(locale.LC_CTYPE)}, names and output in UTF-8")


def _is_utf8(encoding: str) -> bool:
    return encoding.lower().replace("-", "").replace("_", "") in ("utf8", "utf8sig")


def clock(asked: Asked) -> Finding:
    """Say whether the clock can be right: its year, how it runs, and whether files are later than it."""
    now = datetime.datetime.now(datetime.UTC)
    value = f"{now:%Y-%m-%d %H:%M} UTC"
    mend = "set the clock (`timedatectl set-ntp true`)"
    if not EARLIEST < now < LATEST:
        return failed("clock", f"{value}, which cannot be", mend)
    late = _latest_file(asked)
    jumped = abs(time.monotonic() - time.time() - _BEGAN)
    if jumped > 1:
        return warned("clock", f"{value}, and it jumped by {jumped:.0f} s since this command began", mend)
    if late and late[0] > now.timestamp() + _AHEAD:
        ahead = datetime.timedelta(seconds=round(late[0] - now.timestamp()))
        return warned("clock", f"{value}, and {late[1]} is from {ahead} later", f"{mend}, or `touch` that file")
    return passed("clock", value)


def _latest_file(asked: Asked) -> tuple[float, Path] | None:
    """Return the time of the newest file of the project, data sets, runs and models, and the file."""
    places = (ROOT, data_root(asked.data_dir) / "bach_bisque", Path("runs"), Path("saved_models"))
    files = (found for place in places for found in islice(_files(place, depth=0 if place == ROOT else 3), _MOST_FILES))
    return max(files, default=None)


def _files(folder: Path, depth: int) -> Iterator[tuple[float, Path]]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False):
                    yield entry.stat(follow_symlinks=False).st_mtime, Path(entry.path)
                elif depth and entry.is_dir(follow_symlinks=False):
                    yield from _files(Path(entry.path), depth - 1)
    except OSError:  # it is not there, or closed: other checks tell of that
        return


def proxy(asked: Asked) -> Finding:
    """Say whether requests to a server on this machine would leave it."""
    proxies = {name: os.environ[name] for name in _PROXIES if os.environ.get(name)}
    if not proxies:
        return passed("proxy", "none")
    shown = ", ".join(f"{name} is {_without_password(value)}" for name, value in proxies.items())
    unread = [name for name, value in proxies.items() if not _without_password(value)]
    if unread:
        return warned("proxy", f"{unread[0]} is not an address", f"`export {unread[0]}=http://HOST:PORT`, or unset it")
    exceptions = ",".join(os.environ.get(name, "") for name in ("no_proxy", "NO_PROXY"))
    spared = {each.strip() for each in exceptions.split(",")}
    missing = [name for name in _OWN_NAMES if name not in spared]
    if missing and "*" not in spared:
        return warned(
            "proxy", f"{shown}, and no_proxy lacks {' and '.join(missing)}: other programs' requests to `serve` and "
            "TF Serving on this machine, such as curl's, go to the proxy",
            "`export no_proxy=localhost,127.0.0.1,::1 NO_PROXY=localhost,127.0.0.1,::1`",
        )  # fmt: skip
    return passed("proxy", f"{shown}; not for this machine")


def _without_password(url: str) -> str:
    """Return the host and port of an address; "" where it has none."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        return f"{parts.hostname}:{parts.port}" if parts.hostname and parts.port else parts.hostname or ""
    except ValueError:
        return ""


def variables(asked: Asked) -> Finding:
    """Name the variables by which TensorFlow and Keras would do something else than this project needs."""
    wrong = []
    backend = os.environ.get("KERAS_BACKEND", "")
    if backend not in ("", "tensorflow"):
        wrong.append(f"KERAS_BACKEND={backend}")
    if os.environ.get("TF_USE_LEGACY_KERAS", "").lower() in ("1", "true"):
        wrong.append("TF_USE_LEGACY_KERAS")
    if wrong:
        return failed("environment", f"{' and '.join(wrong)}: this project needs Keras 3 on TensorFlow", _unset(wrong))
    if os.environ.get(SWITCH, "").lower() not in ("", "0", "false"):
        return warned("environment", f"{SWITCH} is set, with which the training commands refuse", _unset([SWITCH]))
    if os.environ.get("TF_CONFIG"):
        return warned("environment", "TF_CONFIG is set: every command but `train` should be without it",
                      _unset(["TF_CONFIG"]))  # fmt: skip
    return passed("environment", "no variable changes what TensorFlow and Keras do")


def _unset(names: list[str]) -> str:
    return f"`unset {' '.join(name.partition('=')[0] for name in names)}`"
