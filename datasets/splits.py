"""Which image trains and which one judges: protocols, and the published split files.

``paper`` is the 75/25 split of Koné & Boulmane (2018), drawn image by image and stratified by class;
images of one patient can land on both sides, so it flatters. ``patient`` keeps whole patients or
microarrays together. The split of a config of several collections is the union of theirs.
"""

import csv
import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from datasets.catalogue import BACH, Collection, Record, get_collections

TRAIN, VALIDATION, TEST = SPLITS = ("train", "validation", "test")

PUBLISHED = Path(__file__).parent / "published_splits"

_VALIDATION_SHARE = 0.25

# The validation images of BACH's split by patient (kaiko-ai/eva), as half-open ranges over all
# 400 files sorted by folder, then by name.
_BACH_VALIDATION = ((41, 59), (60, 90), (139, 169), (240, 258), (260, 273), (345, 368))


def _shuffled(names: Iterable[str], seed: int) -> list[str]:
    """Order names by a hash: the same on every machine, and with every version of NumPy."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())


def _paper(collection: Collection, records: list[Record], seed: int) -> set[str]:
    """Choose a quarter of each class."""
    by_label = defaultdict(list)
    for record in records:
        by_label[record.label].append(record.filename)
    return {
        name for names in by_label.values() for name in _shuffled(names, seed)[: round(_VALIDATION_SHARE * len(names))]
    }


def _patient(collection: Collection, records: list[Record], seed: int) -> set[str]:
    """Choose whole patients; BACH's are known only through one published split, whatever the seed."""
    if collection.name != BACH.name:
        return _whole_groups(records, seed)
    # The names of BACH's folders sort as its labels do.
    ordered = [record.filename for record in sorted(BACH.records, key=lambda record: record.key)]
    return {name for start, stop in _BACH_VALIDATION for name in ordered[start:stop]}


def _whole_groups(records: list[Record], seed: int) -> set[str]:
    """Choose groups, in seeded order, for as long as each brings the share nearer a quarter.

    Groups that hold the same labels are one stratum. So each phantom class gives its quarter, and
    BISQUE's one array without malignant images cannot stand for a quarter of its kind: it trains.
    """
    groups = defaultdict(list)
    for record in records:
        groups[record.group].append(record)
    strata = defaultdict(list)
    for group, members in groups.items():
        strata[frozenset(record.label for record in members)].append(group)
    chosen = set()
    for stratum in strata.values():
        missing = _VALIDATION_SHARE * sum(len(groups[group]) for group in stratum)
        for group in _shuffled(stratum, seed):
            left = missing - len(groups[group])
            if abs(left) >= abs(missing):
                break
            missing = left
            chosen |= {record.filename for record in groups[group]}
    return chosen


# Each takes a collection, those of its records that are not for the test, and a seed, and returns
# the names of the validation images.
PROTOCOLS: dict[str, Callable[[Collection, list[Record], int], set[str]]] = {
    "paper": _paper,
    "patient": _patient,
}


def make_split(records: Iterable[Record], config: str, protocol: str, seed: int = 0) -> dict[str, str]:
    """Split records by a protocol.

    Args:
        records: the images, in any order.
        config: bach, bisque, bach_bisque or phantom.
        protocol: ``paper`` or ``patient``.
        seed: which of the possible splits; BACH's by patient is fixed.

    Returns:
        File name -> ``train``, ``validation`` or ``test``. Only phantom has a test part, the same
        patients for every protocol and seed.

    Raises:
        ValueError: unknown config or protocol, or a record that is not of this config.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"There is no protocol {protocol!r}: choose one of {', '.join(PROTOCOLS)}.")
    collections = {collection.name: collection for collection in get_collections(config)}
    by_source = defaultdict(list)
    for record in records:
        if record.source not in collections:
            raise ValueError(f"{record.filename} is of {record.source!r}, which config {config!r} does not hold.")
        by_source[record.source].append(record)
    split = {}
    for source, members in by_source.items():
        collection = collections[source]
        usable = [record for record in members if record.group not in collection.test_groups]
        validation = PROTOCOLS[protocol](collection, usable, seed)
        split |= {record.filename: TEST for record in members}
        split |= {r.filename: VALIDATION if r.filename in validation else TRAIN for r in usable}
    return split


def published_path(config: str, protocol: str) -> Path:
    """Return where the repository keeps the split of seed 0."""
    return PUBLISHED / f"{config}-{protocol}.csv"


def get_split(config: str, protocol: str, seed: int = 0, out: Path | None = None) -> dict[str, str]:
    """Return the split of a whole config, and write it to a CSV file where one is named.

    Needs no data on the disk. Seed 0 is read from the published file.

    Raises:
        ValueError: unknown config or protocol.
    """
    records = [record for collection in get_collections(config) for record in collection.records]
    published = published_path(config, protocol)
    if seed == 0 and protocol in PROTOCOLS and published.exists():
        split = read_split(published)
    else:
        split = make_split(records, config, protocol, seed)
    if out is not None:
        write_split(out, split)
    return split


def write_split(path: Path, split: dict[str, str]) -> None:
    """Write ``filename,split`` rows, sorted by name, in one step."""
    path = Path(path)
    rows = sorted(split.items())
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    with unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("filename", "split"))
        writer.writerows(rows)
    unfinished.replace(path)


def read_split(path: Path) -> dict[str, str]:
    """Read a split file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a row is not ``filename,split`` with a known split and a new name.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no split file {path}.")
    split = {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.reader(file)
        if next(rows, None) != ["filename", "split"]:
            raise ValueError(f"{path} does not begin with the line 'filename,split'.")
        for row in rows:
            if len(row) != 2 or not row[0] or row[1] not in SPLITS:
                expected = f"a file name and one of {', '.join(SPLITS)}"
                raise ValueError(f"{path}, line {rows.line_num}: {','.join(row)!r} is not {expected}.")
            if row[0] in split:
                raise ValueError(f"{path}, line {rows.line_num}: {row[0]} is there twice.")
            split[row[0]] = row[1]
    return split
