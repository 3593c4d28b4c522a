"""Building the data set once, from a user's copy of the images or a download."""

import contextlib
import dataclasses
import io
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from datasets.bach_bisque import replacing
from datasets.bach_bisque.archive import bytes_to_fetch, fetch
from datasets.bach_bisque.prepared import Prepared, Summary
from datasets.bach_bisque.sources import find_images, find_test_images, is_there, missing
from datasets.catalogue import PHANTOM, get_collections
from datasets.download import DISK_FAULTS, check_free
from datasets.errors import MissingError, UserError, WorkError, working

LOG = logging.getLogger(__name__)


def prepare_dataset(
    config: str,
    source: Path | None = None,
    data_dir: Path | None = None,
    *,
    download: bool = False,
    overwrite: bool = False,
) -> Summary:
    """Build a config, unless it is already there; one of an earlier version is brought up to date from its own records.

    Nothing but a download is written before the source is known to be complete, and what is there already stays until
    the new records are complete.

    Args:
        source: a folder or zip with the original images, for bach_bisque a folder with those of both;
            by default TFDS's manual folder, ``<data_dir>/downloads/manual``.
        download: whether the official BACH archive may be fetched into the manual folder, if no BACH is there.
        overwrite: whether to build again what is already there.
    """
    prepared = Prepared(config, data_dir)
    collections = get_collections(config)
    if config == PHANTOM.name and source is not None:
        raise UserError("phantom is drawn, not read: leave the source out.")
    if download and (source or not any(collection.archive for collection in collections)):
        raise UserError("--download fetches BACH: give it without --source, for bach or bach_bisque.")
    place = Path(os.path.expanduser(source or prepared.root / "downloads" / "manual"))
    if source is not None and not place.exists():  # a mistake, whether it would be read or not
        raise MissingError(missing(collections[0], place))
    replacing.clear(prepared.target)  # before the free space is measured
    if prepared.is_built and not overwrite:
        if source is not None:
            LOG.warning(
                f"{config} is prepared already, so {source} was not read: --overwrite prepares it again from there."
            )
        return _update(prepared) if prepared.is_older else prepared.summary()
    _check_source(prepared, place, download)
    with replacing.alone(replacing.lock_of(prepared.target), f"another preparation of {config}"):
        replacing.clear_alone(prepared.target)  # the one that was waited for may have been killed
        if prepared.is_built and not overwrite:  # another process built it in the meantime
            return Prepared(config, data_dir).summary()
        build(prepared, source=place)
    return dataclasses.replace(_summary(prepared), built=True)


def _update(older: Prepared) -> Summary:
    """Bring a set of an earlier version up to date; that version itself stays as it is."""
    summary = older.summary()  # refuses a damaged one
    held = sum(path.stat().st_size for path in older.folder.iterdir())
    check_free(older.root, 2 * held)  # TFDS sorts large records on the disk
    with replacing.alone(replacing.lock_of(older.target), f"another preparation of {older.config}"):
        replacing.clear_alone(older.target)
        if not Prepared(older.config, older.data_dir).is_older:  # another process updated it in the meantime
            return Prepared(older.config, older.data_dir).summary()
        build(older, older=older)
    return dataclasses.replace(_summary(older), updated_from=summary.version)


def _summary(before: Prepared) -> Summary:
    """Count what was made, and name what it takes the place of."""
    prepared = Prepared(before.config, before.data_dir)
    for old in prepared.older_versions:
        LOG.warning(f"{old} is of an earlier version and no longer read: it can be removed.")
    return prepared.summary()


def _check_source(prepared: Prepared, source: Path, download: bool) -> None:
    """Refuse an incomplete source, or a full disk, before the long build begins; fetch BACH if that is wanted."""
    # What cannot be fetched is checked before ten gigabytes are.
    collections = sorted(get_collections(prepared.config), key=lambda collection: collection.archive is not None)
    to_fetch = [one for one in collections if one.archive and download and not is_there(one, source)]
    # PNG takes less than the bare pixels.
    pixels = sum(len(collection.records) * 3 * collection.size[0] * collection.size[1] for collection in collections)
    check_free(prepared.root, pixels + sum(bytes_to_fetch(collection.archive, source) for collection in to_fetch))
    for collection in collections:
        if collection.name == PHANTOM.name:
            continue
        if collection in to_fetch:
            with replacing.alone(source / f".{collection.archive.name}.lock", "another download"):
                if not is_there(collection, source):  # another process fetched it in the meantime
                    fetch(collection.archive, source)
        with find_images(collection, source), find_test_images(collection, source):
            pass


def build(prepared: Prepared, finish: Callable[[Path], None] | None = None, **given) -> None:
    """Build in a place of its own, and put the complete records where the old ones are, if any.

    Args:
        finish: called with the folder of the complete records before they take their place.
        given: attributes of the ``Builder``: the ``source`` to read, or what else the images are taken from.
    """
    import tensorflow_datasets as tfds

    from datasets.bach_bisque.bach_bisque_dataset_builder import Builder

    place = replacing.building_place(prepared.target)
    new = Builder(config=prepared.config, data_dir=place)
    new.shows_progress = True
    for name, value in given.items():
        setattr(new, name, value)
    tfds.disable_progress_bar()  # it has several bars of its own, also where stderr is not a terminal
    try:
        # TFDS announces a download on stdout, though nothing is downloaded, and this place, which is not to last.
        with working(), contextlib.redirect_stdout(io.StringIO()):
            new.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
            if finish:
                finish(Path(new.data_path))
            replacing.replace(prepared.target, Path(new.data_path))
    except Exception as error:
        fault = _disk_fault(error)
        if fault:
            raise WorkError(
                f"{prepared.target} cannot be written: {fault}. Nothing was changed: make room, and try again."
            ) from error
        raise
    finally:
        tfds.enable_progress_bar()
        shutil.rmtree(place, ignore_errors=True)


def _disk_fault(error: BaseException | None) -> str | None:
    """Return what an error, or one behind it, says of a disk that cannot be written to: TFDS wraps them."""
    import tensorflow as tf

    while error is not None:
        if isinstance(error, OSError) and error.errno in DISK_FAULTS:
            return error.strerror
        if isinstance(error, tf.errors.OpError):
            return error.message.rpartition("; ")[2]
        error = error.__cause__
    return None
