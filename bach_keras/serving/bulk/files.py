"""Objects behind URLs (s3://, gs://, file:// and what else Arrow opens), one at a time and whole folders of them."""

import contextlib
import functools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from datasets.errors import UserError
from datasets.images.folder import NOT_TAKEN, SUFFIXES, is_clutter


def is_url(name: str) -> bool:
    return "://" in name


@functools.lru_cache(maxsize=16)
def _file_system(scheme: str, bucket: str, query: str):
    from pyarrow import fs

    return fs.FileSystem.from_uri(f"{scheme}://{bucket}{query}")


def _opened(url: str):
    """Return Arrow's file system and the path in it; buckets are connected to once."""
    from pyarrow import fs

    plain, mark, query = url.partition("?")
    scheme, _, rest = plain.partition("://")
    try:
        if scheme == "file":
            return fs.LocalFileSystem(), rest
        bucket, _, key = rest.partition("/")
        system, root = _file_system(scheme, bucket, mark + query)
    except Exception as error:  # Arrow may raise nearly anything for a URL that it does not know
        raise UserError(f"{url} cannot be opened: {_reason(error)}.") from error
    return system, f"{root.rstrip('/')}/{key}" if key else root


@contextlib.contextmanager
def as_local(name: str) -> Iterator[tuple[Path, int | None]]:
    """Give a file of this machine's with the content of what is named, and when an object was changed, in ns."""
    if not is_url(name):
        yield Path(name), None
        return
    system, path = _opened(name)
    if name.startswith("file://"):
        yield Path(path), None
        return
    with tempfile.TemporaryDirectory(prefix="bulk-") as folder:
        # The name stays out of the path: it may be longer than a file's, and its suffix tells the format.
        local = Path(folder) / f"image{PurePosixPath(path).suffix[:16]}"
        yield local, _fetch(system, path, name, local)


def _fetch(system, path, url, local) -> int | None:
    from pyarrow import fs

    try:
        found = system.get_file_info(path)
        if found.type is not fs.FileType.File:
            what = "is a folder, not an image" if found.type is fs.FileType.Directory else "is not there"
            raise UserError(f"{url} {what}.")
        with system.open_input_stream(path) as source, local.open("wb") as copy:
            shutil.copyfileobj(source, copy, 2**20)
    except OSError as error:
        raise UserError(f"{url} cannot be read: {_reason(error)}.") from error
    return found.mtime_ns


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
    plain, mark, query = url.partition("?")
    prefix = len(path.rstrip("/"))
    return sorted(
        f"{plain.rstrip('/')}{each.path[prefix:]}{mark}{query}"
        for each in inside
        if each.type is fs.FileType.File and _is_image(each.path[prefix:])
    )


def _is_image(path: str) -> bool:
    parts = PurePosixPath(path).parts
    suffix = PurePosixPath(path).suffix.rstrip().lower()
    return suffix in (*SUFFIXES, *NOT_TAKEN) and not any(is_clutter(part) for part in parts if part != "/")
