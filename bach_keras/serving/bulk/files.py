"""Objects behind URLs (s3://, gs://, file:// and what else Arrow opens), one at a time and whole folders of them."""

import contextlib
import functools
import re
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from datasets.errors import UserError, WorkError
from datasets.images.admission import MAX_BYTES
from datasets.images.folder import NOT_TAKEN, SUFFIXES, is_clutter

# Options for the file system at the end of a URL, such as ?region=eu-west-1. Objects may have a ? in their names.
_OPTIONS = re.compile(r"(?:[\w.-]+=[^?&]*(?:&[\w.-]+=[^?&]*)*)?")
# Bytes that are copied at a time.
_PART = 2**20


def is_url(name: str) -> bool:
    return "://" in name


def _split(url: str) -> tuple[str, str]:
    """Return a URL without its options, and these; a bare ? at the end says that it has none."""
    plain, mark, options = url.rpartition("?")
    return (plain, options) if mark and _OPTIONS.fullmatch(options) else (url, "")


def _joined(plain: str, options: str) -> str:
    """Return the URL that ``_split`` splits so."""
    return plain if not options and _split(plain) == (plain, "") else f"{plain}?{options}"


@functools.lru_cache(maxsize=16)
def _file_system(scheme: str, bucket: str, query: str):
    from pyarrow import fs

    return fs.FileSystem.from_uri(f"{scheme}://{bucket}{query}")


def _opened(url: str):
    """Return Arrow's file system and the path in it; buckets are connected to once."""
    from pyarrow import fs

    plain, options = _split(url)
    scheme, _, rest = plain.partition("://")
    try:
        if scheme == "file":
            return fs.LocalFileSystem(), rest
        bucket, _, key = rest.partition("/")
        system, root = _file_system(scheme, bucket, options and f"?{options}")
    except Exception as error:  # Arrow may raise nearly anything for a URL that it does not know
        raise UserError(f"{url} cannot be opened: {_reason(error)}.") from error
    return system, f"{root.rstrip('/')}/{key}" if key else root


@contextlib.contextmanager
def as_local(name: str, place: str | None = None) -> Iterator[tuple[Path, int | None]]:
    """Give a file of this machine's with the content of what is named, and when an object was changed, in ns.

    A ``WorkError`` is raised where this machine cannot keep it.

    Args:
        place: the folder in which an object is kept meanwhile; None: the system's for temporary files.
    """
    if not is_url(name):
        yield Path(name), None
        return
    system, path = _opened(name)
    if name.startswith("file://"):
        yield Path(path), None
        return
    suffix = PurePosixPath(path).suffix
    if suffix.rstrip().lower() in NOT_TAKEN:
        raise UserError(f"{name} is not fetched, as {suffix} is not read: save it as PNG or TIFF of 8-bit RGB.")
    with contextlib.ExitStack() as stack:
        with of_this_machine():
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bulk-", dir=place))
        # The name stays out of the path: it may be longer than a file's.
        local = Path(folder) / "image"
        yield local, _fetch(system, path, name, local)


@contextlib.contextmanager
def of_this_machine() -> Iterator[None]:
    """Say of an error that it is of the disk on which objects are kept, and not of an object."""
    try:
        yield
    except OSError as error:
        raise WorkError(
            f"{tempfile.gettempdir()} on machine {socket.gethostname()}, where objects are kept while they are read, "
            f"cannot be written ({error.strerror or error}): make room there, or let TMPDIR name another folder."
        ) from error


def _fetch(system, path, url, local) -> int | None:
    from pyarrow import fs

    try:
        found = system.get_file_info(path)
        if found.type is not fs.FileType.File:
            what = "is a folder, not an image" if found.type is fs.FileType.Directory else "is not there"
            raise UserError(f"{url} {what}.")
    except OSError as error:
        raise UserError(f"{url} cannot be read: {_reason(error)}.") from error
    _check_size(found.size or 0, url)
    with of_this_machine(), local.open("wb") as copy:
        copy.writelines(_parts(system, path, url))
    return found.mtime_ns


def _parts(system, path: str, url: str) -> Iterator[bytes]:
    """Yield the content of an object; an error of it is told from one of the file that it is written to."""
    size = 0
    try:
        with system.open_input_stream(path) as source:
            while data := source.read(_PART):
                size += len(data)
                _check_size(size, url)  # not every store says it before
                yield data
    except OSError as error:
        raise UserError(f"{url} cannot be read: {_reason(error)}.") from error


def _check_size(size: int, url: str) -> None:
    if size > MAX_BYTES:
        raise UserError(f"{url} is not fetched, as it has {size:,} bytes or more; at most {MAX_BYTES:,} are.")


def _reason(error) -> str:
    return " ".join(str(error).split()).rstrip(".")


def images_below(url: str) -> list[str]:
    """List the URLs of the images in a folder of an object store, sorted, as ``find_images`` lists a folder."""
    from pyarrow import fs

    system, path = _opened(url)
    try:
        found = system.get_file_info(path)
        if found.type is fs.FileType.File:
            return [url]
        inside = system.get_file_info(fs.FileSelector(path, recursive=True))
    except OSError as error:
        raise UserError(f"{url} cannot be read: {_reason(error)}.") from error
    plain, options = _split(url)
    prefix = len(path.rstrip("/"))
    return sorted(
        _joined(f"{plain.rstrip('/')}{each.path[prefix:]}", options)
        for each in inside
        if each.type is fs.FileType.File and _is_image(each.path[prefix:])
    )


def _is_image(path: str) -> bool:
    parts = PurePosixPath(path).parts
    suffix = PurePosixPath(path).suffix.rstrip().lower()
    return suffix in (*SUFFIXES, *NOT_TAKEN) and not any(is_clutter(part) for part in parts if part != "/")
