"""Building the data set once, and reading it back: what the command line and training call."""

import contextlib
import dataclasses
import io
import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf
import tensorflow_datasets as tfds
from google.protobuf import json_format

from datasets.bach_bisque import archive, replacing, verify
from datasets.bach_bisque.bach_bisque_dataset_builder import Builder
from datasets.bach_bisque.sources import find_images, find_test_images, is_there, missing
from datasets.catalogue import BACH, PHANTOM, Record, get_collections
from datasets.download import DISK_FAULTS, check_free
from datasets.errors import MissingError, UserError
from datasets.escape import for_terminal


@dataclass(frozen=True)
class Summary:
    """What a prepared config holds.

    Attributes:
        config: its name.
        path: the folder of its record files.
        version: of the builder that made them.
        images: how many labelled images.
        labels: label -> how many images; labels without images are left out.
        sources: collection -> how many images.
        groups: how many known patients or microarrays.
        test_images: how many unlabelled test images.
        built: whether this call built it, rather than found it.
    """

    config: str
    path: Path
    version: str
    images: int
    labels: dict[str, int]
    sources: dict[str, int]
    groups: int
    test_images: int = 0
    built: bool = False


def _say(line: str) -> None:
    print(for_terminal(line), file=sys.stderr, flush=True)


def prepare(
    config: str,
    source: Path | None = None,
    data_dir: Path | None = None,
    *,
    download: bool = False,
    overwrite: bool = False,
    say: Callable[[str], None] = _say,
) -> Summary:
    """Build a config, unless it is already there.

    Nothing but a download is written before the source has been found whole, and what is there already
    stays until the new records are complete.

    Args:
        config: bach, bisque, bach_bisque or phantom.
        source: a folder or zip with the original images, for bach_bisque a folder with those of both;
            by default TFDS's manual folder, ``<data_dir>/downloads/manual``.
        data_dir: where data sets live; by default TFDS's place, the environment's ``TFDS_DATA_DIR``
            or else ``~/tensorflow_datasets``.
        download: whether the official BACH archive may be fetched into the manual folder, if no BACH is there.
        overwrite: build anew what is already there.
        say: prints a line for the user.

    Raises:
        ConnectionError: the download broke off; the next call goes on from there.
        UserError: no source, or images are missing from it.
        OSError: the disk is too full.
        UserError: unknown config, a source or download that does not fit it, or wrong or damaged images.
    """
    builder = _builder(config, data_dir)
    if config == PHANTOM.name and source is not None:
        raise UserError("phantom is drawn, not read: leave the source out.")
    if download and (source or BACH.name not in _names(builder)):
        raise UserError("--download fetches BACH: give it without --source, for bach or bach_bisque.")
    if config != PHANTOM.name:
        builder.source = Path(source or builder.data_dir_root / "downloads" / "manual").expanduser()
    if source is not None and not builder.source.exists():  # a mistake, whether it would be read or not
        raise MissingError(missing(builder.builder_config.collections[0], builder.source))
    target = Path(builder.data_path)
    replacing.clear(target)  # before anything is counted as free
    if _is_built(builder) and not overwrite:
        if source is not None:
            say(f"{config} is prepared already, so {source} was not read: --overwrite prepares it again from there.")
        return _summary(builder)
    _check_source(builder, download, say)
    with replacing.alone(replacing.lock_of(target), f"another preparation of {config}", say):
        replacing.clear_alone(target)  # the one that was waited for may have been killed
        if not _is_built(builder) or overwrite:
            _build(builder, target)
            for old in _older_versions(builder):
                say(f"{old} is of an earlier version and no longer read: it can be removed.")
            return dataclasses.replace(describe(config, data_dir), built=True)
    return describe(config, data_dir)  # another process built it in the meantime


def find_differences(config: str, data_dir: Path | None = None) -> list[str]:
    """Re-read every record of a prepared config, and name what is not as it was prepared.

    Returns:
        A sentence for each difference; empty if there is none.

    Raises:
        UserError: it is not prepared.
        UserError: unknown config, or its description is damaged.
    """
    return verify.differences(_prepared(config, data_dir).info)


def is_prepared(config: str, data_dir: Path | None = None) -> bool:
    """Say whether a config is built.

    Raises:
        UserError: unknown config, or its description is damaged.
    """
    builder = _builder(config, data_dir)
    return _is_built(builder) and bool(_records(builder))


def data_root(data_dir: Path | None = None) -> Path:
    """Return the folder that data sets live in."""
    return Path(_builder(BACH.name, data_dir).data_dir_root)


def describe(config: str, data_dir: Path | None = None) -> Summary:
    """Count what a prepared config holds, without reading its pixels.

    Raises:
        UserError: it is not prepared.
        UserError: unknown config, or its description is damaged.
    """
    return _summary(_prepared(config, data_dir))


def records(config: str, data_dir: Path | None = None) -> list[Record]:
    """List a prepared config's images, without reading their pixels.

    Raises:
        UserError: it is not prepared.
        UserError: unknown config, or its description is damaged.
    """
    return _records(_prepared(config, data_dir))


def pixel_digests(config: str, data_dir: Path | None = None) -> dict[str, str]:
    """Return file name -> the SHA-256 of each image's pixels when it was prepared, without reading them.

    Raises:
        UserError: it is not prepared.
        UserError: unknown config.
    """
    return {row["filename"]: row["sha256"] for row in _prepared(config, data_dir).info.metadata["train"]}


def load(config: str, data_dir: Path | None = None, filenames: Iterable[str] | None = None) -> tf.data.Dataset:
    """Read a prepared config, or the named images of it, in an order that is always the same.

    Returns:
        Dicts of image (uint8 RGB [H, W, 3]), label (int64 [], an index of ``LABELS``), and filename,
        group and source (string []). The cardinality is known.

    Raises:
        UserError: it is not prepared.
        UserError: unknown config, a name that it does not hold, or its description is damaged.
    """
    builder = _prepared(config, data_dir)
    # One shard after the other: the order then depends on the keys alone. Undecoded, for the filter's sake.
    dataset = builder.as_dataset(
        split="train",
        read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
        decoders={"image": tfds.decode.SkipDecoding()},
    )
    if filenames is not None:
        wanted = set(filenames)
        unknown = sorted(wanted - {record.filename for record in _records(builder)})
        if unknown:
            raise UserError(f"{config} holds no image {', '.join(unknown[:3])} ({len(unknown)} unknown names).")
        names = tf.constant(sorted(wanted), tf.string)
        dataset = dataset.filter(lambda example: tf.reduce_any(example["filename"] == names))
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(wanted)))
    return dataset.map(_decode, num_parallel_calls=tf.data.AUTOTUNE)


def _decode(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    return example | {"image": tf.io.decode_png(example["image"], channels=3)}


def _builder(config: str, data_dir: Path | None) -> Builder:
    get_collections(config)  # our sentence for an unknown name, not TFDS's
    data_dir = data_dir and Path(data_dir).expanduser()
    try:
        builder = Builder(config=config, data_dir=data_dir)
        if replacing.restore(Path(builder.data_path)):
            builder = Builder(config=config, data_dir=data_dir)
        builder.info.metadata.keys()  # TFDS reads its files when they are first asked for
    except (json_format.ParseError, json.JSONDecodeError, UnicodeDecodeError, TypeError) as error:
        raise UserError(
            f"What is prepared as {config} in {data_dir or 'the default folder'} is damaged ({error}): remove "
            f"the folder bach_bisque/{config} there and prepare it again."
        ) from error
    return builder


def _is_built(builder: Builder) -> bool:
    # TFDS's own is_prepared logs a warning for every config that is not there.
    return all(Path(builder.data_dir, name).is_file() for name in ("dataset_info.json", "metadata.json"))


def _prepared(config: str, data_dir: Path | None) -> Builder:
    builder = _builder(config, data_dir)
    if not _is_built(builder):
        source = "" if config == PHANTOM.name else " --source DIR_OR_ZIP"
        older = _older_versions(builder)
        raise MissingError(
            f"{config} is not prepared in {builder.data_dir_root}"
            f"{f' in version {builder.version}, only in {older[-1].name}' if older else ''}: run "
            f"`python cli.py data prepare --config {config}{source}` first."
        )
    _records(builder)
    return builder


def _older_versions(builder: Builder) -> list[Path]:
    """List the folders that earlier versions of the builder prepared; they are no longer read."""
    versions = Path(builder.data_path).parent.glob("[0-9]*")
    return sorted(path for path in versions if path.name != str(builder.version))


def _records(builder: Builder) -> list[Record]:
    """Return the table of labelled images.

    Raises:
        UserError: it is missing, or is none.
    """
    fields = [field.name for field in dataclasses.fields(Record)]
    try:
        return [Record(**{name: row[name] for name in fields}) for row in builder.info.metadata["train"]]
    except (LookupError, TypeError) as error:
        config = builder.builder_config.name
        raise UserError(
            f"The table of images in {Path(builder.data_dir, 'metadata.json')} is damaged: prepare it again with "
            f"`data prepare --config {config} --overwrite`."
        ) from error


def _summary(builder: Builder) -> Summary:
    held = _records(builder)
    return Summary(
        config=builder.builder_config.name,
        path=Path(builder.data_dir),
        version=str(builder.version),
        images=len(held),
        labels=dict(Counter(record.label for record in held)),
        sources=dict(Counter(record.source for record in held)),
        groups=len({record.group for record in held} - {""}),
        test_images=len(builder.info.metadata.get("test", ())),
    )


def _names(builder: Builder) -> list[str]:
    return [collection.name for collection in builder.builder_config.collections]


def _check_source(builder: Builder, download: bool, say: Callable[[str], None]) -> None:
    """Refuse an incomplete source, or a full disk, before the long build begins; fetch BACH if that is wanted."""
    collections = builder.builder_config.collections
    manual = builder.source
    fetch = download and not is_there(BACH, manual)
    # PNG takes less than the bare pixels.
    pixels = sum(len(collection.records) * 3 * collection.size[0] * collection.size[1] for collection in collections)
    to_fetch = archive.bytes_to_fetch(archive.BACH_ARCHIVE, manual) if fetch else 0
    check_free(Path(builder.data_dir_root), pixels + to_fetch)
    # What must be there already is looked at before ten gigabytes are fetched.
    for collection in sorted(collections, key=lambda collection: collection.name == BACH.name):
        if collection.name == PHANTOM.name:
            continue
        if collection.name == BACH.name and fetch:
            with replacing.alone(manual / f".{archive.BACH_ARCHIVE.name}.lock", "another download", say):
                if not is_there(BACH, manual):
                    archive.fetch(archive.BACH_ARCHIVE, manual, say)
        with find_images(collection, builder.source, say), find_test_images(collection, builder.source):
            pass


def _build(builder: Builder, target: Path) -> None:
    """Build in a place of its own, and put the complete records where the old ones are, if any."""
    place = replacing.building_place(target)
    new = Builder(config=builder.builder_config.name, data_dir=place)
    new.source = builder.source
    try:
        # TFDS announces a download to stdout, though nothing is downloaded, and this place, which is not to last.
        with contextlib.redirect_stdout(io.StringIO()):
            new.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
        replacing.replace(target, Path(new.data_path))
    except Exception as error:
        fault = _disk_fault(error)
        if fault:
            raise OSError(
                f"{target} cannot be written: {fault}. Nothing was changed: make room, and try again."
            ) from error
        raise
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _disk_fault(error: BaseException | None) -> str | None:
    """Return what an error, or one behind it, says of a disk that cannot be written to: TFDS wraps them."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in DISK_FAULTS:
            return error.strerror
        if isinstance(error, tf.errors.OpError):
            return error.message.rpartition("; ")[2]
        error = error.__cause__
    return None
