"""The place of a run's folder: whether a run is there, who trains it, and making room for a new one."""

import json
import os
import shutil
from pathlib import Path

from datasets.errors import UserError
from datasets.locked import only_one
from datasets.whole import whole_folder, write_json


def is_finished(folder: Path) -> bool:
    """Say whether a finished run is there."""
    return (folder / "metrics.json").is_file()


def only_trainer(folder: Path):
    """Let only this process train the run in this context; a ``UserError`` says that another one does."""
    refusal = f"Another process trains {folder}: wait for it to end, or choose another --run-dir."
    return only_one(folder / ".lock", refusal, "another training of it")


def check_destination(folder: str | os.PathLike, overwrite: bool = False) -> bool:
    """Return whether a run exists there that would be replaced.

    Raises:
        UserError: the folder holds a run and ``overwrite`` is not set, or holds something else.
    """
    folder = Path(folder)
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} holds something that is not a run: choose another --run-dir.")
    if not overwrite:
        raise UserError(
            f"{folder} holds a run already: choose another --run-dir, resume it with --resume, "
            "or start over with --overwrite."
        )
    return True


def set_aside(folder: Path, overwrite: bool) -> None:
    """Make room for a new run; with ``overwrite`` one that exists is kept as ``<folder>.previous``.

    An unfinished run does not take the place of a finished one that was kept so: it is removed.
    """
    if check_destination(folder, overwrite):
        with only_trainer(folder):  # or a training would write into the run that takes its place
            pass
        previous = folder.with_name(f"{folder.name}.previous")
        if is_finished(previous) and not is_finished(folder):
            shutil.rmtree(folder)
            return
        if previous.exists():
            shutil.rmtree(previous)
        folder.rename(previous)
    elif folder.exists():
        folder.rmdir()  # an empty folder


def share_run(source: Path, folder: Path, more: dict, overwrite: bool) -> None:
    """Make a run folder of another's files, which both then have; its config.json holds ``more`` as well."""
    with whole_folder(folder) as partial:
        shutil.copytree(source, partial, copy_function=link_or_copy, dirs_exist_ok=True)
        # The name is replaced and the file it linked to stays, so the other run does not change.
        write_json(partial / "config.json", json.loads((partial / "config.json").read_text()) | more)
        set_aside(folder, overwrite)


def link_or_copy(source, target) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copyfile(source, target)
