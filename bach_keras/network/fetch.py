"""Trained ResNeXt-50 weights from where they are published, verified and converted to ``.h5``."""

import logging
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import huggingface_hub
from huggingface_hub.errors import EntryNotFoundError, HFValidationError

from bach_keras.network.published import HISTOLOGY, PUBLISHED
from bach_keras.network.weights import Asked, check_destination, convert_weights, default_path
from bach_keras.normalisation import IMAGENET
from datasets.digest import sha256_of
from datasets.download import DISK_FAULTS, download
from datasets.errors import UserError, WorkError
from datasets.progress import bar

LOG = logging.getLogger(__name__)

ELSEWHERE = "or download it on another machine and use `weights port`"


@dataclass(frozen=True)
class Source:
    """What to fetch: a name in ``PUBLISHED``, a URL, or a Hugging Face repository as ``owner/name``."""

    name: str = "torchvision"
    revision: str | None = None  # commit of a repository, 40 hexadecimal digits; needed where none is published here
    sha256: str | None = None  # of the file, where it is not published here and its name does not end in its digits

    @property
    def published(self):
        return PUBLISHED.get(self.name)

    @property
    def place(self) -> str:
        return self.published.place if self.published else self.name

    @property
    def digits(self) -> str:
        """The digits that must begin the SHA-256 of what is fetched; "" where none are known."""
        by_name = re.search(r"-([0-9a-f]{8,64})\.pth$", self.place)
        known = self.published.digits if self.published else by_name[1] if by_name else ""
        given = (self.sha256 or "").lower()
        if given and not re.fullmatch("[0-9a-f]{64}", given):
            raise UserError(f"--sha256 {self.sha256} is not a SHA-256: it has 64 hexadecimal digits.")
        if not given.startswith(known) and given:
            raise UserError(f"--sha256 begins {given[: len(known)]}, and the file that is published {known}.")
        return given or known

    @property
    def default_path(self) -> Path:
        """Where its weights are written where the user names no place."""
        is_tissue = self.published is not None and self.published.kind == HISTOLOGY
        return default_path(HISTOLOGY if is_tissue else IMAGENET)


def fetch_weights(to=None, source=Source(), *, overwrite=False, model=None) -> Path:
    """Download trained weights, verify them, convert them to ``.h5`` and return its path.

    Nothing is taken without a digest to verify it by, or the commit of a repository that pins it. The next call resumes
    a download that was interrupted. ``to`` is the ``.h5`` to write, by default the source's own.
    """
    to = Path(to) if to else source.default_path
    check_destination(to, overwrite)
    asked = Asked(published=source.published)
    if not source.place.startswith(("http://", "https://")):
        path, origin = _download_from_hub(source)
        return convert_weights(path, to, asked=asked, overwrite=overwrite, origin=origin, model=model)
    url = source.place
    digits, name = source.digits, PurePosixPath(url).name
    if not digits:
        page = source.published.page if source.published else ""
        where = f"its page, {page}, shows it" if page else "its name does not end in -<digits of it>.pth"
        pinned = source.published.pinned_as if source.published else ""
        other = f" Or fetch the same weights with --which {pinned}, of which the commit is known." if pinned else ""
        raise UserError(f"{url} cannot be verified: give the SHA-256 of the file with --sha256; {where}.{other}")
    to.parent.mkdir(parents=True, exist_ok=True)
    part = to.with_name(f"{name}.part")
    _download(url, part)
    try:
        _verify(part, digits, url)
    except UserError:
        part.unlink()
        raise
    convert_weights(part, to, asked=asked, overwrite=overwrite, origin=url, model=model)
    part.unlink()
    return to


def _download(url: str, part: Path) -> None:
    with bar(what=PurePosixPath(url).name, unit="B") as drawn:

        def progress(done, total):
            drawn.total = total
            drawn.update(done - drawn.n)

        download(url, part, progress, otherwise=ELSEWHERE)


def _download_from_hub(source: Source) -> tuple[str, str]:
    """Return the path of a repository's weights in the hub's cache, and where they are from."""
    repository, published = source.place, source.published
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise UserError(f"There is no source {repository!r}: name one of {', '.join(PUBLISHED)}, a URL, or owner/name.")
    commit = source.revision or (published.revision if published else None)
    if not re.fullmatch("[0-9a-f]{40}", commit or ""):
        raise UserError(
            f"{repository} needs a revision of 40 hexadecimal digits, the commit to take (not {commit}): "
            "a branch may change."
        )
    digits = source.digits if source.sha256 or (published and commit == published.revision) else ""
    try:
        path = huggingface_hub.hf_hub_download(repository, "model.safetensors", revision=commit)
    except (OSError, EntryNotFoundError, HFValidationError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        if getattr(error, "errno", None) in DISK_FAULTS:
            raise WorkError(f"{repository} cannot be written ({reason}): make room, then fetch again.") from error
        raise ConnectionError(f"{repository} could not be fetched ({reason}): try again, {ELSEWHERE}.") from error
    _verify(path, digits, repository)
    if not digits:
        LOG.info(
            f"no SHA-256 of {repository} is known here, and the commit pins what is taken: {sha256_of(Path(path))}"
        )
    return path, f"{repository}@{commit}"


def _verify(path, digits: str, origin: str) -> None:
    sha256 = sha256_of(Path(path))
    if not sha256.startswith(digits):
        raise UserError(
            f"What came from {origin} is not the published file: its SHA-256 begins "
            f"{sha256[: len(digits)]}, not {digits}."
        )
