"""A prepared configuration under a protocol: which image is in which split."""

import hashlib
import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from datasets.catalogue import BACH
from datasets.errors import UserError
from datasets.patients import read_patients
from datasets.sets import Joined, Prepared, copies_of, open_set, parts_of_set, shared_patients
from datasets.splits import SPLITS, TEST, TRAIN, VALIDATION, get_split, keeps_patients, leak_note
from datasets.wording import counted

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class SplitData:
    """Images of a configuration, split by a protocol."""

    prepared: Prepared | Joined
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

    def check_copies(self) -> None:
        """Refuse a join whose sets share images, unless all of these train: the others would judge what they trained,
        or count twice, as of two patients.
        """
        sides = {name: side for side, names in self.files.items() for name in names}
        # A run's split does not name what was added to a set since.
        pairs = [pair for pair in copies_of(self.prepared) if sides.keys() >= set(pair)]
        judging = [(first, second) for first, second in pairs if {sides[first], sides[second]} != {TRAIN}]
        if judging:
            named = ", ".join(f"{a} ({sides[a]}) and {b} ({sides[b]})" for a, b in judging[:3])
            raise UserError(
                f"{self.config} joins sets that share {counted(len(judging), 'image')}, and not all of these train, so "
                f"a score would mean nothing: {named}{', ...' if len(judging) > 3 else ''}. Leave them out of one set "
                "and prepare that again, or use the sets one by one."
            )
        if pairs:
            LOG.warning(
                f"{self.config} joins sets that share {counted(len(pairs), 'image')}, which train twice, such as "
                f"{' and '.join(pairs[0])}."
            )

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
    prepared = open_set(config, data_dir)
    split = _union(prepared, protocol, seed, named)
    files = {name: sorted(file for file, where in split.items() if where == name) for name in SPLITS}
    shared = _shared_note(prepared) if keeps_patients(protocol) else ""
    origin = {
        "seed": seed,
        "patients_sha256": hashlib.sha256(Path(patients).read_bytes()).hexdigest() if patients else None,
        "note": " ".join(filter(None, (leak_note(config, protocol, named, prepared.collections), shared))),
        **({} if named is None else {"patients": named}),
    }
    return SplitData(prepared, protocol, files, origin)


def _union(prepared: Prepared | Joined, protocol: str, seed: int, named: dict[str, str] | None) -> dict[str, str]:
    """Return the split of a set, that of a join being the union of its parts' splits: file name -> its split."""
    parts = parts_of_set(prepared)
    # A sheet of BACH's patients is about no other part; where there is no BACH, the first part refuses it.
    about = [part for part in parts if BACH in part.collections] or parts[:1]
    split = {}
    for part in parts:
        sheet = named if part in about else None
        split |= get_split(part.config, protocol, seed, patients=sheet, collections=part.collections)
    return split


def _shared_note(prepared: Prepared | Joined) -> str:
    names = shared_patients(prepared)
    if not names:
        return ""
    which = f"{counted(len(names), 'name')} of patients, such as {names[0]},"
    return (
        f"In several sets of {prepared.config}: {which} taken for different people. If they are the same, prepare "
        "their images as one set, or a patient can be on both sides."
    )


def data_of_run(config: dict, data_dir=None) -> SplitData:
    """Open the data of a run by its ``config.json``, split as it was when the run started.

    Runs from before the sheet of patients was kept in it have the groups that are known without the sheet.
    """
    prepared = open_set(config["config"], data_dir)
    return SplitData(prepared, config["protocol"], config["split"], config.get("split_origin", {}))


def default_config(data_dir=None) -> str:
    """Return ``bach`` where it is prepared, else ``phantom``, with a warning."""
    bach = open_set("bach", data_dir)
    if bach.is_there:
        return "bach"
    LOG.warning(
        f"WARNING: no --config was given and bach is not prepared in {bach.root}, so this uses phantom: SYNTHETIC "
        "images. Prepare BACH with `data prepare --config bach`, or name a data set with --config."
    )
    return "phantom"
