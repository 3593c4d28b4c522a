"""Which image trains and which one judges: protocols, and the published split files.

``paper`` is the 75/25 split of Koné & Boulmane (2018), drawn image by image and stratified by class;
images of one patient can land on both sides, so it flatters. ``patient`` and ``kfold:K/i`` keep whole
patients or microarrays together as far as they are known; ``leak_note`` says where they are not.
``all`` trains on everything. The split of a config of several collections is the union of theirs.
"""

import csv
import hashlib
import re
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping
from pathlib import Path

from datasets.catalogue import BACH, BACH_PATIENTS, BISQUE, CONFIGS, Collection, Record, get_collections
from datasets.errors import MissingError, UserError
from datasets.own.names import is_own
from datasets.whole import whole


class CannotSplitError(UserError):
    """A protocol cannot split these images: they are too few, or of too few patients."""


TRAIN, VALIDATION, TEST = SPLITS = ("train", "validation", "test")

PUBLISHED = Path(__file__).parent / "published_splits"
PUBLISHED_PROTOCOLS = ("paper", "patient", *(f"kfold:5/{fold}" for fold in range(1, 6)), "all")

# The validation images of BACH's split by patient (kaiko-ai/eva), as half-open ranges over all
# 400 files sorted by folder, then by name.
_BACH_VALIDATION = ((41, 59), (60, 90), (139, 169), (240, 258), (260, 273), (345, 368))


def parse_protocol(protocol: str) -> tuple[str, int, int]:
    """Return a protocol's kind (paper, patient, kfold or all), of how many parts one validates, and which, from 1."""
    if protocol in {"paper", "patient"}:
        return protocol, 4, 1
    if protocol == "all":
        return protocol, 0, 0
    found = re.fullmatch(r"kfold:(0|[1-9][0-9]{0,3})/(0|[1-9][0-9]{0,3})", protocol)
    if not found:
        raise UserError(
            f"There is no protocol {protocol!r}: choose paper, patient, all or kfold:K/i, which is fold i of K "
            "(kfold:5/1)."
        )
    folds, fold = map(int, found.groups())
    if folds < 2 or not 1 <= fold <= folds:
        raise UserError(f"There is no fold {protocol!r}: in kfold:K/i K is at least 2, and i goes from 1 to K.")
    return "kfold", folds, fold


def keeps_patients(protocol: str) -> bool:
    """Whether a protocol splits by patient, where patients are known."""
    return parse_protocol(protocol)[0] in {"patient", "kfold"}


def make_split(
    records: Iterable[Record],
    config: str,
    protocol: str,
    seed: int = 0,
    patients: Mapping[str, str] | None = None,
    collections: Iterable[Collection] | None = None,
) -> dict[str, str]:
    """Split the records of a config, in any order, by a protocol: file name -> ``train``, ``validation`` or ``test``.

    Only phantom has a test part, the same patients for every protocol and seed.

    Args:
        seed: which of the possible splits; BACH's by patient is fixed where ``patients`` is not given.
        patients: BACH's file names -> patients, as ``datasets.patients.read_patients`` gives them, in place of the
            records' own. Images that it does not name always train.
        collections: what the config holds, for a config of own images, which only its prepared set knows.
    """
    name, _, _ = parse_protocol(protocol)
    collections = {collection.name: collection for collection in collections or get_collections(config)}
    if patients is not None and (BACH.name not in collections or name not in {"patient", "kfold"}):
        raise UserError(
            f"A sheet of BACH's patients changes nothing for protocol {protocol} on {config}: leave it out, or "
            "choose patient or kfold:K/i on bach or bach_bisque."
        )
    by_source = defaultdict(list)
    for record in records:
        if record.source not in collections:
            raise ValueError(f"{record.filename} is of {record.source!r}, which config {config!r} does not hold.")
        by_source[record.source].append(record)
    split = {}
    for source, members in by_source.items():
        collection = collections[source]
        usable = [record for record in members if record.group not in collection.test_groups]
        validation = _validation(collection, usable, protocol, seed, patients)
        split |= {record.filename: TEST for record in members}
        split |= {r.filename: VALIDATION if r.filename in validation else TRAIN for r in usable}
    return split


def _validation(collection: Collection, records: list[Record], protocol, seed, patients) -> set[str]:
    """Return the names of the validation images among those that are not for the test."""
    name, count, number = parse_protocol(protocol)
    if name == "all":
        return set()
    if name == "patient" and collection.name == BACH.name and patients is None:
        # The names of BACH's folders sort as its labels do.
        ordered = [record.filename for record in sorted(BACH.records, key=lambda record: record.key)]
        return {filename for start, stop in _BACH_VALIDATION for filename in ordered[start:stop]}
    groups = _groups(collection, records, name, patients)
    if name == "kfold" and count > len(groups):
        raise CannotSplitError(
            f"Protocol {protocol} cannot split {collection.name} into {count}: it has {len(groups)} patients, "
            "microarrays or images of unknown origin. Choose a smaller K."
        )
    folds = _folds(groups, count, seed)
    # One bad fold spoils a cross-validation; the other protocols use the first part alone.
    if lacking := _lacking(collection, records, folds, len(folds) if name == "kfold" else 1):
        raise CannotSplitError(
            f"Protocol {protocol} on {collection.name} leaves {lacking} images: too few patients or microarrays are "
            f"known for it{_remedy(collection, records, seed, patients)}."
        )
    return {record.filename for record in folds[number - 1]}


def _lacking(collection: Collection, records: list[Record], folds: list[list[Record]], count: int) -> str:
    """Say which labels a validation or training set has none of, where each of the first ``count`` folds validates."""
    labels = {record.label for record in records}
    for fold in folds[:count]:
        if missing := labels - {record.label for record in fold}:
            return f"a validation set without {', '.join(sorted(missing))}"
        left = labels - {record.label for other in folds if other is not fold for record in other}
        if left and is_own(collection.name):
            return f"a training set without {', '.join(sorted(left))}"
    return ""


def _remedy(collection: Collection, records: list[Record], seed: int, patients) -> str:
    """Name the protocol that needs the fewest patients, where it works: two of each label."""
    groups = _groups(collection, records, "kfold", patients)
    halves = _folds(groups, 2, seed)
    return "" if _lacking(collection, records, halves, 2) else "; kfold:2/1 works"


def _groups(collection: Collection, records: list[Record], name: str, patients) -> dict[str, list[Record]]:
    """Return what a protocol keeps together: name -> images; one that a sheet of patients leaves out is in no group."""
    groups = defaultdict(list)
    for record in records:
        alone = collection.drawn_names.get(record.filename, record.filename)
        # An image is alone where nothing is known of it.
        has_sheet = patients is not None and collection.name == BACH.name
        known = patients.get(record.filename) if has_sheet else record.group or alone
        group = alone if name == "paper" else known
        if group is not None:
            groups[group].append(record)
    return _with_copies_joined(groups, collection.digests)


def _with_copies_joined(groups: dict[str, list[Record]], digests: Mapping[str, str]) -> dict[str, list[Record]]:
    """Join groups that hold the same pixels, under the first of their names: a copy must not judge what it trained."""
    if not digests:
        return groups
    joined = {name: name for name in groups}

    def first(name):
        while joined[name] != name:
            name = joined[name]
        return name

    holders = {}
    for name in sorted(groups):
        for record in groups[name]:
            several = sorted({first(name), first(holders.setdefault(digests[record.filename], name))})
            joined[several[-1]] = several[0]
    together = defaultdict(list)
    for name in sorted(groups):
        together[first(name)] += groups[name]
    return together


def _folds(groups: dict[str, list[Record]], count: int, seed: int) -> list[list[Record]]:
    """Split groups into folds of like labels: each fold takes its share of what the ones before it left."""
    # A hash gives the same order on every machine, and with every version of NumPy.
    names = sorted(groups, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
    left = {name: groups[name] for name in names}
    folds = []
    for parts in range(count, 1, -1):
        chosen = _share(left, parts)
        folds.append([record for name in chosen for record in left.pop(name)])
    return [*folds, [record for members in left.values() for record in members]]


def _share(groups: dict[str, list[Record]], parts: int) -> list[str]:
    """Choose groups that hold one part of each label.

    Takes the group that brings the labels' counts nearest to their shares (by the sum of squares, in whole
    numbers; the first of equals), for as long as one brings them nearer.
    """
    total, chosen_labels, chosen = Counter(), Counter(), []
    # What a group brings depends on its labels alone, so of those alike only the first has to be looked at.
    alike = defaultdict(deque)
    for place, (name, members) in enumerate(groups.items()):
        counts = Counter(record.label for record in members)
        total += counts
        alike[tuple(sorted(counts.items()))].append((place, name))

    def change(labels):
        return sum(n * (2 * (parts * chosen_labels[label] - total[label]) + parts * n) for label, n in labels)

    while alike:
        best = min(alike, key=lambda labels: (change(labels), alike[labels][0]))
        if change(best) >= 0:
            break
        chosen.append(alike[best].popleft()[1])
        chosen_labels += Counter(dict(best))
        if not alike[best]:
            del alike[best]
    return chosen


def leak_note(
    config: str,
    protocol: str,
    patients: Mapping[str, str] | None = None,
    collections: Iterable[Collection] | None = None,
) -> str:
    """Say what a split cannot exclude, in sentences; "" where patients are kept apart."""
    name, _, _ = parse_protocol(protocol)
    if name == "paper":
        return "Protocol paper splits image by image: a patient's images can be on both sides, so it flatters."
    if name == "all":
        return ""
    collections = tuple(collections or get_collections(config))
    notes = [_own_note(collection, protocol) for collection in collections if is_own(collection.name)]
    if BACH in collections and patients is None:
        unknown = sum(not record.group for record in BACH.records)
        whose = f"The patients of {unknown} of BACH's {len(BACH.records)} images are not known"
        notes.append(
            f"{whose}: {protocol} keeps the {len(set(BACH_PATIENTS.values()))} known patients whole and splits the "
            "others' images one by one, so it cannot exclude leaks among those. --patients takes a fuller sheet."
            if name == "kfold"
            else f"{whose}; all of them train. The challenge says that they are of other patients than those named; "
            "nobody can check it."
        )
    if BACH in collections and patients is not None and len(patients) < len(BACH.records):
        notes.append(
            f"The sheet of patients leaves out {len(BACH.records) - len(patients)} of BACH's {len(BACH.records)} "
            "images, so they always train. The challenge says that they are of other patients than those named; nobody "
            "can check it."
        )
    if BISQUE in collections:
        notes.append(
            "BISQUE's slides of array 49 bear six dates and count as six groups: whether they share patients is "
            "not known."
        )
    return " ".join(filter(None, notes))


def _own_note(collection: Collection, protocol: str) -> str:
    unknown = sum(not record.group for record in collection.records)
    if not unknown:
        return ""
    return (
        f"The patients of {unknown} of {collection.name}'s {len(collection.records)} images are not known: {protocol} "
        "splits those images one by one, so it cannot exclude leaks among them."
    )


def published_path(config: str, protocol: str) -> Path:
    """Return where the repository keeps the split of seed 0."""
    return PUBLISHED / f"{config}-{re.sub('[:/]', '-', protocol)}.csv"


def get_split(
    config: str,
    protocol: str,
    seed: int = 0,
    out: Path | None = None,
    patients: Mapping[str, str] | None = None,
    collections: Iterable[Collection] | None = None,
) -> dict[str, str]:
    """Return the split of a config, and write it to a CSV file where one is named.

    Needs no data on the disk, but for a config of own images its collections, as ``Prepared`` gives them. Seed 0 is
    read from the published file, if there is one.
    """
    if seed == 0 and patients is None and protocol in PUBLISHED_PROTOCOLS and config in CONFIGS:
        split = read_split(published_path(config, protocol))
    else:
        collections = tuple(collections or get_collections(config))
        records = [record for collection in collections for record in collection.records]
        split = make_split(records, config, protocol, seed, patients, collections)
    if out is not None:
        write_split(out, split)
    return split


def write_split(path: Path, split: dict[str, str]) -> None:
    """Write ``filename,split`` rows, sorted by name."""
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder: name a CSV file.")
    rows = sorted(split.items())
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("filename", "split"))
        writer.writerows(rows)


def read_split(path: Path) -> dict[str, str]:
    """Read a split file: file name -> its split."""
    path = Path(path)
    if not path.is_file():
        raise MissingError(f"There is no split file {path}.")
    split = {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.reader(file)
        if next(rows, None) != ["filename", "split"]:
            raise UserError(f"{path} does not begin with the line 'filename,split'.")
        for row in rows:
            if len(row) != 2 or not row[0] or row[1] not in SPLITS:
                expected = f"a file name and one of {', '.join(SPLITS)}"
                raise UserError(f"{path}, line {rows.line_num}: {','.join(row)!r} is not {expected}.")
            if row[0] in split:
                raise UserError(f"{path}, line {rows.line_num}: {row[0]} is there twice.")
            split[row[0]] = row[1]
    return split
