"""A prepared configuration under a protocol: which image is in which split."""

import hashlib
import sys
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from datasets.bach_bisque import prepare
from datasets.patients import read_patients
from datasets.splits import SPLITS, TEST, VALIDATION, get_split, leak_note


@dataclass(frozen=True)
class SplitData:
    """Images of a configuration, parted by a protocol.

    Attributes:
        config: bach, bisque, bach_bisque or phantom.
        protocol: paper, patient, kfold:K/i or all.
        data_dir: where data sets live; None for TFDS's place.
        files: split name -> sorted file names.
        origin: what else the split came from: its ``seed``, ``patients_sha256`` of the sheet of patients (None
            without one), and ``note``, what the split cannot exclude ("" where there is nothing to say).
        labels: file name -> label name.
    """

    config: str
    protocol: str
    data_dir: Path | None = None
    files: dict[str, list[str]] = field(default_factory=dict)
    origin: dict = field(default_factory=dict)

    @cached_property
    def labels(self) -> dict[str, str]:
        return {record.filename: record.label for record in prepare.records(self.config, self.data_dir)}

    @property
    def held_out(self) -> str:
        """The split to evaluate on: ``test`` where the protocol keeps one, else ``validation``."""
        return TEST if self.files.get(TEST) else VALIDATION

    def digest(self, filenames) -> str:
        """Return a SHA-256 of the named images' names and pixels, as they were prepared."""
        pixels = prepare.pixel_digests(self.config, self.data_dir)
        return hashlib.sha256("".join(f"{name} {pixels[name]}\n" for name in sorted(filenames)).encode()).hexdigest()

    def images(self, filenames):
        """Read the named images, as ``datasets.bach_bisque.prepare.load`` gives them."""
        return prepare.load(self.config, self.data_dir, filenames)


def open_data(config: str, protocol: str, seed: int = 0, data_dir=None, patients: Path | None = None) -> SplitData:
    """Open a prepared configuration under a protocol; see ``split_data``.

    Raises:
        UserError: the configuration is not prepared.
    """
    prepare.describe(config, data_dir)
    return split_data(config, protocol, seed, data_dir, patients)


def split_data(config: str, protocol: str, seed: int = 0, data_dir=None, patients: Path | None = None) -> SplitData:
    """Part a configuration by a protocol, before its images are needed.

    Args:
        config: bach, bisque, bach_bisque or phantom.
        protocol: paper, patient, kfold:K/i or all.
        seed: of the split.
        data_dir: where data sets live; None for TFDS's place.
        patients: a CSV file that says which patient a BACH image is from; see ``datasets.patients``.

    Raises:
        UserError: there is no such file of patients.
        UserError: unknown configuration or protocol, or patients that cannot be read or used.
    """
    named = read_patients(patients) if patients else None
    split = get_split(config, protocol, seed, patients=named)
    files = {name: sorted(file for file, where in split.items() if where == name) for name in SPLITS}
    origin = {
        "seed": seed,
        "patients_sha256": hashlib.sha256(Path(patients).read_bytes()).hexdigest() if patients else None,
        "note": leak_note(config, protocol, named),
    }
    return SplitData(config, protocol, data_dir, files, origin)


def data_of_run(config: dict, data_dir=None) -> SplitData:
    """Open the data of a run by its ``config.json``, split as it was when the run began."""
    return SplitData(config["config"], config["protocol"], data_dir, config["split"], config.get("split_origin", {}))


def default_config(data_dir=None) -> str:
    """Return ``bach`` where it is prepared, else ``phantom``, and say so loudly on stderr."""
    if prepare.is_prepared("bach", data_dir):
        return "bach"
    print(
        f"WARNING: no --config was given and bach is not prepared in {prepare.data_root(data_dir)}, so this uses "
        "phantom: SYNTHETIC images. Prepare BACH with `data prepare --config bach`, or name a data set with --config.",
        file=sys.stderr,
        flush=True,
    )
    return "phantom"
