"""A prepared configuration under a protocol: which image is in which split."""

import hashlib
import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from datasets.bach_bisque.prepared import Prepared
from datasets.catalogue import BACH
from datasets.patients import read_patients
from datasets.splits import SPLITS, TEST, VALIDATION, get_split, leak_note

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class SplitData:
    """Images of a configuration, split by a protocol."""

    prepared: Prepared
    protocol: str
    files: dict[str, list[str]]  # split name -> sorted file names
    # What else the split came from: its ``seed``, ``patients_sha256`` of the sheet of patients (None without one),
    # ``note``, what the split cannot exclude ("" where there is nothing to say), and ``patients``, what the sheet says
    # (file name -> patient), if there was one.
    origin: dict

    @property
    def config(self) -> str:
        return self.prepared.config

    @property
    def data_dir(self) -> Path | None:
        return self.prepared.data_dir

    @cached_property
    def labels(self) -> dict[str, str]:
        """File name -> label name."""
        return {record.filename: record.label for record in self.prepared.records}

    @cached_property
    def groups(self) -> dict[str, str]:
        """File name -> the patient or microarray that an image is from, "" where that is unknown.

        A sheet of patients that the split went by says all that counts as known of BACH's.
        """
        records, sheet = self.prepared.records, self.origin.get("patients")
        if sheet is None:
            if self.origin.get("patients_sha256"):
                LOG.warning(
                    "The split went by a sheet of patients of which its run kept only the digest, so images count as "
                    "the organisers' list of BACH's patients has them."
                )
            return {record.filename: record.group for record in records}
        return {r.filename: sheet.get(r.filename, "") if r.source == BACH.name else r.group for r in records}

    @property
    def held_out(self) -> str:
        """The split to evaluate on: ``test`` where the protocol keeps one, else ``validation``."""
        return TEST if self.files.get(TEST) else VALIDATION

    def digest(self, filenames) -> str:
        """Return a SHA-256 of the named images' names and pixels, as they were prepared."""
        names, pixels = sorted(filenames), self.prepared.digests
        self.prepared.check_names(names)
        return hashlib.sha256("".join(f"{name} {pixels[name]}\n" for name in names).encode()).hexdigest()

    def images(self, filenames):
        """Read the named images, as ``Prepared.load`` gives them."""
        return self.prepared.load(filenames)


def split_data(config: str, protocol: str, seed: int = 0, data_dir=None, patients: Path | None = None) -> SplitData:
    """Split a configuration by a protocol, before its images are needed.

    ``seed`` is that of the split; ``patients`` a CSV file that says which patient a BACH image is from.
    """
    named = read_patients(patients) if patients else None
    prepared = Prepared(config, data_dir)
    split = get_split(config, protocol, seed, patients=named, collections=prepared.collections)
    files = {name: sorted(file for file, where in split.items() if where == name) for name in SPLITS}
    origin = {
        "seed": seed,
        "patients_sha256": hashlib.sha256(Path(patients).read_bytes()).hexdigest() if patients else None,
        "note": leak_note(config, protocol, named, prepared.collections),
        **({} if named is None else {"patients": named}),
    }
    return SplitData(prepared, protocol, files, origin)


def data_of_run(config: dict, data_dir=None) -> SplitData:
    """Open the data of a run by its ``config.json``, split as it was when the run started.

    Runs from before the sheet of patients was kept in it have the groups that are known without the sheet.
    """
    prepared = Prepared(config["config"], data_dir)
    return SplitData(prepared, config["protocol"], config["split"], config.get("split_origin", {}))


def default_config(data_dir=None) -> str:
    """Return ``bach`` where it is prepared, else ``phantom``, with a warning."""
    bach = Prepared("bach", data_dir)
    if bach.is_there:
        return "bach"
    LOG.warning(
        f"WARNING: no --config was given and bach is not prepared in {bach.root}, so this uses phantom: SYNTHETIC "
        "images. Prepare BACH with `data prepare --config bach`, or name a data set with --config."
    )
    return "phantom"
