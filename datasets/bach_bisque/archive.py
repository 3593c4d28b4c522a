"""The official BACH archive: fetched where the user asks for it, and checked against its published digest."""

import contextlib
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from datasets.download import CHUNK, download
from datasets.errors import UserError


@dataclass(frozen=True)
class Archive:
    """A published file.

    Attributes:
        name: its file name.
        url: where it is published.
        md5: its MD5, 32 hexadecimal digits.
        sizes: what its size may be in bytes, as exactly as its page says it.
        licence: what whoever fetches it agrees to.
        citation: how to cite it.
    """

    name: str
    url: str
    md5: str
    sizes: range
    licence: str
    citation: str


# Zenodo record 3632035; its page rounds the size to 10.4 GB.
BACH_ARCHIVE = Archive(
    name="ICIAR2018_BACH_Challenge.zip",
    url="https://zenodo.org/records/3632035/files/ICIAR2018_BACH_Challenge.zip",
    md5="8ae1801334aa943c44627c1eef3631b2",
    sizes=range(10_350_000_000, 10_450_000_000),
    licence="CC BY-NC-ND 4.0 (https://creativecommons.org/licenses/by-nc-nd/4.0): give credit, no commercial use, "
    "and pass nothing on that is made from it, the prepared records included.",
    citation='G. Aresta et al., "BACH: Grand challenge on breast cancer histology images", Medical Image Analysis 56, '
    "122-139, 2019; data: https://doi.org/10.5281/zenodo.3632035.",
)


def bytes_to_fetch(archive: Archive, folder: Path) -> int:
    """Return how much of an archive a download into a folder has still to bring, at most."""
    part = _part(archive, folder)
    return archive.sizes.stop - (part.stat().st_size if part.exists() else 0)


def fetch(archive: Archive, folder: Path, say: Callable[[str], None]) -> Path:
    """Download an archive, after showing its licence and citation, and verify it.

    A download that was cut goes on where it stopped when ``fetch`` is called again.

    Args:
        archive: what to fetch.
        folder: where it is to lie.
        say: prints a line for the user.

    Returns:
        Its path.

    Raises:
        ConnectionError: the server cannot be reached, or broke off.
        UserError: what came is not the published file; it is removed, so the next call begins anew.
    """
    folder.mkdir(parents=True, exist_ok=True)
    part, path = _part(archive, folder), folder / archive.name
    say(f"Fetching {archive.url} ({archive.sizes.stop / 1e9:.1f} GB) to {path}.")
    say(f"Licence: {archive.licence}")
    say(f"Please cite: {archive.citation}")
    with tqdm(desc=archive.name, unit="B", unit_scale=True, mininterval=1) as bar:

        def progress(done, total):
            bar.total = total
            bar.update(done - bar.n)

        download(archive.url, part, progress, otherwise=f"or download it with a browser and put it into {folder}")
    md5 = _md5(part)
    if md5 != archive.md5:
        part.unlink()
        raise UserError(
            f"What came from {archive.url} is not the published file: its MD5 is {md5}, not {archive.md5}. "
            "It was removed: fetch it again."
        )
    part.rename(path)
    _remember(archive, path)
    return path


def check_digest(archive: Archive, path: Path, say: Callable[[str], None]) -> None:
    """Refuse a file of an archive's name and size that has another digest.

    A user's own zip of the images has another size; what it holds is checked image by image. A digest
    that was right is noted beside the file, so that it is computed once as long as the file is not touched.

    Args:
        archive: what is published.
        path: the file.
        say: prints a line for the user, where a file of the archive's name has another size.

    Raises:
        UserError: the digest is wrong.
    """
    if path.name != archive.name:
        return
    if path.stat().st_size not in archive.sizes:
        say(f"{path} has not the size of the published file, so its MD5 was not checked: its images are, one by one.")
        return
    if _is_remembered(archive, path):
        return
    md5 = _md5(path)
    if md5 != archive.md5:
        raise UserError(
            f"{path} is damaged: its MD5 is {md5}, not the published {archive.md5}. Remove it and fetch it again; "
            "if it is a zip that you made yourself, give it another name."
        )
    _remember(archive, path)


def _part(archive: Archive, folder: Path) -> Path:
    return folder / f"{archive.name}.part"


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    size = path.stat().st_size
    with (
        path.open("rb") as file,
        tqdm(desc=f"MD5 of {path.name}", total=size, unit="B", unit_scale=True, mininterval=1) as bar,
    ):
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            bar.update(len(chunk))
    return digest.hexdigest()


def _note(archive: Archive, path: Path) -> tuple[Path, bytes]:
    """Return where a verified digest is noted, and what says that the file is still the same."""
    stat = path.stat()
    told = {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "md5": archive.md5}
    return path.with_name(f".{path.name}.md5.json"), json.dumps(told).encode()


def _is_remembered(archive: Archive, path: Path) -> bool:
    note, told = _note(archive, path)
    return note.is_file() and note.read_bytes() == told


def _remember(archive: Archive, path: Path) -> None:
    note, told = _note(archive, path)
    with contextlib.suppress(OSError):  # a folder that cannot be written to costs a second look, no more
        note.write_bytes(told)
