"""Trained ResNeXt-50 weights from where they are published, verified and converted to ``.h5``."""

import re
from pathlib import Path, PurePosixPath

import huggingface_hub
from huggingface_hub.errors import EntryNotFoundError, HFValidationError

from bach_keras.network.weights import check_destination, convert_weights, default_path
from datasets.digest import sha256_of
from datasets.download import DISK_FAULTS, download
from datasets.errors import UserError, WorkError
from datasets.progress import bar

# The hexadecimal digits in a file's name begin its SHA-256. The semi-supervised
# and semi-weakly supervised weights are Facebook's, CC BY-NC 4.0.
URLS = {
    "torchvision": "https://download.pytorch.org/models/resnext50_32x4d-7cdf4587.pth",
    "torchvision-v2": "https://download.pytorch.org/models/resnext50_32x4d-1a0047aa.pth",
    "semi-supervised": "https://dl.fbaipublicfiles.com/semiweaksupervision/model_files/"
    "semi_supervised_resnext50_32x4-ddb3e555.pth",
    "semi-weakly-supervised": "https://dl.fbaipublicfiles.com/semiweaksupervision/model_files/"
    "semi_weakly_supervised_resnext50_32x4-72679e44.pth",
}

# Hugging Face repository -> the commit that added its weights, and the SHA-256
# of its model.safetensors, both as the repository's pages print them.
HUB = {
    "timm/resnext50_32x4d.tv_in1k": (
        "ac4eef0c61cc63cb64d8c416bf9b518f757bed1f",
        "c0d85cba49c0e9dedbcf6d4e572e2c5ea5eb68e9d64d0564811fd54d4f72939a",
    ),
    "timm/resnext50_32x4d.a1h_in1k": (
        "8af8dd95e2a7538fad74714fc76507d9de9de33c",
        "b952952a7b3e856b16ebf82fb44d2aa8c502e73ec678976c9e3b970fcd530bd5",
    ),
}

ELSEWHERE = "or download it on another machine and use `weights port`"


def fetch_weights(to=None, source="torchvision", *, revision=None, overwrite=False, model=None) -> Path:
    """Download trained weights, verify them, convert them to ``.h5`` and return its path.

    The next call resumes a download that was interrupted.

    Args:
        to: the ``.h5`` to write; ``default_path()`` if not given.
        source: a name in ``URLS``, a URL whose file name ends in ``-<first digits of its
            SHA-256>.pth``, or a Hugging Face repository, as ``owner/name``.
        revision: the repository's commit, 40 hexadecimal digits; needed where ``HUB`` has none.
    """
    to = Path(to) if to else default_path()
    check_destination(to, overwrite)
    url = URLS.get(source, source)
    if not url.startswith(("http://", "https://")):
        path, origin = _download_from_hub(source, revision)
        return convert_weights(path, to, overwrite=overwrite, origin=origin, model=model)
    name = PurePosixPath(url).name
    digits = re.search(r"-([0-9a-f]{8,64})\.pth$", name)
    if not digits:
        raise UserError(f"{url} cannot be verified: its name does not end in -<digits of its SHA-256>.pth.")
    to.parent.mkdir(parents=True, exist_ok=True)
    part = to.with_name(f"{name}.part")
    _download(url, part)
    try:
        _verify(part, digits[1], url)
    except UserError:
        part.unlink()
        raise
    convert_weights(part, to, overwrite=overwrite, origin=url, model=model)
    part.unlink()
    return to


def _download(url: str, part: Path) -> None:
    with bar(what=PurePosixPath(url).name, unit="B") as drawn:

        def progress(done, total):
            drawn.total = total
            drawn.update(done - drawn.n)

        download(url, part, progress, otherwise=ELSEWHERE)


def _download_from_hub(repository: str, revision: str | None) -> tuple[str, str]:
    """Return the path of a repository's weights in the hub's cache, and where they are from."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        known = ", ".join([*URLS, *HUB])
        raise UserError(f"There is no source {repository!r}: name one of {known}, a URL, or owner/name.")
    pinned, sha256 = HUB.get(repository, (None, ""))
    commit = revision or pinned
    if not re.fullmatch("[0-9a-f]{40}", commit or ""):
        raise UserError(
            f"{repository} needs a revision of 40 hexadecimal digits, the commit to take (not {commit}): "
            "a branch may change."
        )
    try:
        path = huggingface_hub.hf_hub_download(repository, "model.safetensors", revision=commit)
    except (OSError, EntryNotFoundError, HFValidationError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        if getattr(error, "errno", None) in DISK_FAULTS:
            raise WorkError(f"{repository} cannot be written ({reason}): make room, then fetch again.") from error
        raise ConnectionError(f"{repository} could not be fetched ({reason}): try again, {ELSEWHERE}.") from error
    if commit == pinned:
        _verify(path, sha256, repository)
    return path, f"{repository}@{commit}"


def _verify(path, digits: str, origin: str) -> None:
    sha256 = sha256_of(Path(path))
    if not sha256.startswith(digits):
        raise UserError(
            f"What came from {origin} is not the published file: its SHA-256 begins "
            f"{sha256[: len(digits)]}, not {digits}."
        )
