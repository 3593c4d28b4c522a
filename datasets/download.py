"""Fetching one large file over HTTP, so that an interrupted download can be resumed."""

import errno
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from http import HTTPStatus
from http.client import HTTPException, InvalidURL
from pathlib import Path

from datasets.errors import UserError, WorkError

TIMEOUT = 30  # seconds without an answer
CHUNK = 1 << 20  # bytes between two calls of progress

# Errors of a disk, never of a connection: it is full, a quota is, the file is too large for it, it is broken.
DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)


def download(
    url: str, part: Path, progress: Callable[[int, int | None], None] | None = None, *, otherwise: str
) -> None:
    """Fill a file up to what a server has, beginning after what the file holds already.

    The content is not verified here: the caller must do so before anybody uses the file.

    Args:
        url: what to fetch.
        part: the file to fill; its name should say that it is not complete.
        progress: called with the bytes so far and in all (None where the server does not say).
        otherwise: what to do without a connection, the end of the sentence "try again, ...".

    Raises:
        ConnectionError: the server cannot be reached or has no such file.
        WorkError: the server broke off, or the disk became full; the next call resumes.
    """
    done = part.stat().st_size if part.exists() else 0
    total = None
    try:
        request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            if response.status != HTTPStatus.PARTIAL_CONTENT:  # the complete file, from its beginning
                done = 0
            length = response.headers.get("Content-Length", "")
            if length.isdecimal():
                total = done + int(length)
            with part.open("ab" if done else "wb") as file:
                while chunk := response.read(CHUNK):
                    done += file.write(chunk)
                    if progress:
                        progress(done, total)
    except (InvalidURL, ValueError) as error:
        raise UserError(f"{url} is not a URL that can be fetched ({error}).") from error
    except urllib.error.HTTPError as error:
        error.close()
        # This answer means that the file is complete already, and only remains to be verified.
        if error.code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise ConnectionError(
                f"{url} could not be fetched: the server answered {error.code} {error.reason}."
            ) from error
    except urllib.error.URLError as error:
        raise ConnectionError(f"{url} could not be reached ({error.reason}): try again, {otherwise}.") from error
    except (OSError, HTTPException) as error:
        if getattr(error, "errno", None) in DISK_FAULTS:
            raise WorkError(f"{part} cannot be written ({error.strerror}): make room, then fetch again.") from error
        if getattr(error, "filename", None) is not None:  # the file could not be opened
            raise OSError(f"{part} cannot be written: {error.strerror}.") from error
        raise WorkError(_broken_off(url, done, error)) from error
    if total is not None and done < total:
        raise WorkError(_broken_off(url, done, f"of {total}"))


def check_free(folder: Path, needed: int) -> None:
    """Refuse, by an ``OSError``, to begin what the disk cannot hold.

    Args:
        folder: where it will be written; it need not exist yet.
        needed: bytes.
    """
    place = folder
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < needed:
        raise OSError(
            f"{folder} needs {needed / 1e9:.1f} GB and its disk has {free / 1e9:.1f} GB free: make room, "
            "or choose another place."
        )


def _broken_off(url: str, done: int, reason: object) -> str:
    return f"The download of {url} broke off after {done} bytes ({reason}): fetch again to resume it."
