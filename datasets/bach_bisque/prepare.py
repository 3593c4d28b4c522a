"""Building the data set once, and reading it back: what the command line and training call."""

import contextlib
import fcntl
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf
import tensorflow_datasets as tfds

from datasets.bach_bisque.bach_bisque_dataset_builder import Builder
from datasets.bach_bisque.sources import find_images
from datasets.catalogue import PHANTOM, Record, get_collections


@dataclass(frozen=True)
class Summary:
    """What a prepared config holds.

    Attributes:
        config: its name.
        path: the folder of its record files.
        images: how many images.
        labels: label -> how many images; labels without images are left out.
        sources: collection -> how many images.
        groups: how many known patients or microarrays.
        built: whether this call built it, rather than found it.
    """

    config: str
    path: Path
    images: int
    labels: dict[str, int]
    sources: dict[str, int]
    groups: int
    built: bool = False


def prepare(config: str, source: Path | None = None, data_dir: Path | None = None) -> Summary:
    """Build a config, unless it is already there.

    Args:
        config: bach, bisque, bach_bisque or phantom.
        source: a folder or zip with the original images, for bach_bisque a folder with those of both;
            by default TFDS's manual folder, ``<data_dir>/downloads/manual``.
        data_dir: where data sets live; by default TFDS's place, the environment's ``TFDS_DATA_DIR``
            or else ``~/tensorflow_datasets``.

    Raises:
        FileNotFoundError: no source, or images are missing from it.
        ValueError: unknown config, a source that phantom does not need, or wrong or damaged images.
    """
    builder = _builder(config, data_dir)
    if config == PHANTOM.name:
        if source is not None:
            raise ValueError("phantom is drawn, not read: leave the source out.")
    else:
        builder.source = Path(source or builder.data_dir_root / "downloads" / "manual").expanduser()
    if _is_built(builder):
        return _summary(builder)
    _check_source(builder)
    with _alone(builder):
        if _is_built(builder):  # by another process, in the meantime
            return describe(config, data_dir)
        _clear(builder)
        # TFDS announces a download to stdout, though nothing is downloaded.
        with contextlib.redirect_stdout(sys.stderr):
            builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    return _summary(builder, built=True)


def is_prepared(config: str, data_dir: Path | None = None) -> bool:
    """Say whether a config is built.

    Raises:
        ValueError: unknown config.
    """
    return _is_built(_builder(config, data_dir))


def describe(config: str, data_dir: Path | None = None) -> Summary:
    """Count what a prepared config holds, without reading its pixels.

    Raises:
        FileNotFoundError: it is not prepared.
        ValueError: unknown config.
    """
    return _summary(_prepared(config, data_dir))


def records(config: str, data_dir: Path | None = None) -> list[Record]:
    """List a prepared config's images, without reading their pixels.

    Raises:
        FileNotFoundError: it is not prepared.
        ValueError: unknown config.
    """
    return _records(_prepared(config, data_dir))


def load(config: str, data_dir: Path | None = None, filenames: Iterable[str] | None = None) -> tf.data.Dataset:
    """Read a prepared config, or the named images of it, in an order that is always the same.

    Returns:
        Dicts of image (uint8 RGB [H, W, 3]), label (int64 [], an index of ``LABELS``), and filename,
        group and source (string []). The cardinality is known.

    Raises:
        FileNotFoundError: it is not prepared.
        ValueError: unknown config, or a name that it does not hold.
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
            raise ValueError(f"{config} holds no image {', '.join(unknown[:3])} ({len(unknown)} unknown names).")
        names = tf.constant(sorted(wanted), tf.string)
        dataset = dataset.filter(lambda example: tf.reduce_any(example["filename"] == names))
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(wanted)))
    return dataset.map(_decode, num_parallel_calls=tf.data.AUTOTUNE)


def _decode(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    return example | {"image": tf.io.decode_png(example["image"], channels=3)}


def _builder(config: str, data_dir: Path | None) -> Builder:
    get_collections(config)  # our sentence for an unknown name, not TFDS's
    return Builder(config=config, data_dir=data_dir and Path(data_dir).expanduser())


def _is_built(builder: Builder) -> bool:
    # TFDS's own is_prepared logs a warning for every config that is not there.
    return Path(builder.data_dir, "dataset_info.json").is_file()


def _prepared(config: str, data_dir: Path | None) -> Builder:
    builder = _builder(config, data_dir)
    if not _is_built(builder):
        source = "" if config == PHANTOM.name else " --source DIR_OR_ZIP"
        raise FileNotFoundError(
            f"{config} is not prepared in {builder.data_dir_root}: run "
            f"`python cli.py data prepare --config {config}{source}` first."
        )
    return builder


def _records(builder: Builder) -> list[Record]:
    return [Record(**fields) for fields in builder.info.metadata["records"]]


def _summary(builder: Builder, built: bool = False) -> Summary:
    held = _records(builder)
    return Summary(
        config=builder.builder_config.name,
        path=Path(builder.data_dir),
        images=len(held),
        labels=dict(Counter(record.label for record in held)),
        sources=dict(Counter(record.source for record in held)),
        groups=len({record.group for record in held} - {""}),
        built=built,
    )


def _check_source(builder: Builder) -> None:
    """Refuse an incomplete source before the long build begins."""
    if builder.source is not None:
        for collection in builder.builder_config.collections:
            with find_images(collection, builder.source):
                pass


@contextlib.contextmanager
def _alone(builder: Builder) -> Iterator[None]:
    """Let a second process that wants to build the same config wait for the first."""
    folder = Path(builder.data_path).parent
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".prepare.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _clear(builder: Builder) -> None:
    """Remove what a killed build left behind: TFDS builds beside the target, then renames."""
    target = Path(builder.data_path)
    for leftover in [target, *target.parent.glob(f"incomplete.*_{target.name}")]:
        shutil.rmtree(leftover, ignore_errors=True)
