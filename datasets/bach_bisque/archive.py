"""A published archive: fetched where the user asks for it, and checked against its published digest."""

import contextlib
import functools
import hashlib
import json
import logging
from pathlib import Path

from datasets.catalogue import Archive
from datasets.download import CHUNK, download
from datasets.errors import UserError, WorkError, working
from datasets.progress import bar

LOG = logging.getLogger(__name__)


def bytes_to_fetch(archive: Archive, folder: Path) -> int:
    """Return at most how many bytes a download into a folder has still to bring."""
    part = _part(archive, folder)
    return archive.sizes.stop - (part.stat().st_size if part.exists() else 0)


def fetch(archive: Archive, folder: Path) -> Path:
    """Download an archive into a folder and verify it; the next call resumes a download that was interrupted."""
    folder.mkdir(parents=True, exist_ok=True)
    part, path = _part(archive, folder), folder / archive.name
    LOG.info(f"Fetching {archive.url} ({archive.sizes.stop / 1e9:.1f} GB) to {path}.")
    LOG.info(f"Licence: {archive.licence}")
    LOG.info(f"Please cite: {archive.citation}")
    with bar(what=archive.name, unit="B") as progress:

        def show(done, total):
            progress.total = total
            progress.update(done - progress.n)

        download(archive.url, part, show, otherwise=f"or download it with a browser and put it into {folder}")
    with working():
        md5 = _md5(part)
        if md5 != archive.md5:
            part.unlink()
            raise WorkError(
                f"What came from {archive.url} is not the published file: its MD5 is {md5}, not {archive.md5}. "
                "It was removed: fetch it again."
            )
        part.rename(path)
    _remember(archive, path)
    return path


def check_digest(archive: Archive, path: Path) -> None:
    """Refuse a file of an archive's name and size that has another digest.

    A user's own zip of the images has another size; what it holds is checked image by image. A digest that was right is
    noted next to the file, so that it is computed once as long as the file is not touched.
    """
    if path.name != archive.name:
        return
    if path.stat().st_size not in archive.sizes:
        _warn_of_size(path)
        return
    place, note = _note(archive, path)
    if place.is_file() and place.read_bytes() == note:
        return
    md5 = _md5(path)
    if md5 != archive.md5:
        raise UserError(
            f"{path} is damaged: its MD5 is {md5}, not the published {archive.md5}. Remove it and fetch it again; "
            "if it is a zip that you made yourself, give it another name."
        )
    _remember(archive, path)


@functools.cache  # a preparation opens the file several times
def _warn_of_size(path: Path) -> None:
    LOG.warning(
        f"{path} does not have the size of the published file, so its MD5 was not checked: its images are, one by one."
    )


def _part(archive: Archive, folder: Path) -> Path:
    return folder / f"{archive.name}.part"


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file, bar(what=f"MD5 of {path.name}", total=path.stat().st_size, unit="B") as progress:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            progress.update(len(chunk))
    return digest.hexdigest()


def _note(archive: Archive, path: Path) -> tuple[Path, bytes]:
    """Return where a verified digest is noted, and what says that the file is still the same."""
    stat = path.stat()
    note = {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "md5": archive.md5}
    return path.with_name(f".{path.name}.md5.json"), json.dumps(note).encode()


def _remember(archive: Archive, path: Path) -> None:
    place, note = _note(archive, path)
    with contextlib.suppress(OSError):  # in a folder that cannot be written to, the digest is computed again
        place.write_bytes(note)
