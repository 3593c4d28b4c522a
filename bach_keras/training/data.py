"""A prepared configuration under a protocol: which image is in which split."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from datasets.bach_bisque import prepare
from datasets.splits import SPLITS, TEST, VALIDATION, get_split


@dataclass(frozen=True)
class SplitData:
    """Images of a configuration, parted by a protocol.

    Attributes:
        config: bach, bisque, bach_bisque or phantom.
        protocol: paper or patient.
        data_dir: where data sets live; None for TFDS's place.
        files: split name -> sorted file names.
        labels: file name -> label name.
    """

    config: str
    protocol: str
    data_dir: Path | None = None
    files: dict[str, list[str]] = field(default_factory=dict)

    @cached_property
    def labels(self) -> dict[str, str]:
        return {record.filename: record.label for record in prepare.records(self.config, self.data_dir)}

    @property
    def held_out(self) -> str:
        """The split to evaluate on: ``test`` where the protocol keeps one, else ``validation``."""
        return TEST if self.files.get(TEST) else VALIDATION

    def images(self, filenames):
        """Read the named images, as ``datasets.bach_bisque.prepare.load`` gives them."""
        return prepare.load(self.config, self.data_dir, filenames)


def open_data(config: str, protocol: str, seed: int = 0, data_dir=None) -> SplitData:
    """Open a prepared configuration under a protocol.

    Raises:
        FileNotFoundError: the configuration is not prepared.
        ValueError: unknown configuration or protocol.
    """
    prepare.describe(config, data_dir)
    split = get_split(config, protocol, seed)
    files = {name: sorted(file for file, where in split.items() if where == name) for name in SPLITS}
    return SplitData(config, protocol, data_dir, files)


def default_config(data_dir=None) -> str:
    """Return ``bach`` where it is prepared, else ``phantom``."""
    return "bach" if prepare.is_prepared("bach", data_dir) else "phantom"
