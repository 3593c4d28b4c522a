"""Opening a configuration: one set as it was prepared, or a join of several."""

import contextlib
import dataclasses
import functools
import itertools
import operator
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from datasets.bach_bisque.prepared import Prepared, Summary, check_names, summary_of
from datasets.catalogue import Collection, Record
from datasets.config_names import JOIN, parts_of
from datasets.errors import UserError
from datasets.own.names import is_own
from datasets.wording import counted


class Joined:
    """Several sets, each prepared by itself, read as one: it has what ``Prepared`` has for reading.

    Names of images are unique over all sets, so records, digests and images are those of the parts one after another.
    Patients are not: those of a user's own images bear the name of their set here, as two hospitals may both have a P1.
    """

    def __init__(self, config: str, data_dir: Path | None = None):
        self.parts = tuple(Prepared(part, data_dir) for part in parts_of(config))
        self.config, self.data_dir = JOIN.join(part.config for part in self.parts), data_dir
        self.root = self.parts[0].root

    @property
    def is_there(self) -> bool:
        return all(part.is_there for part in self.parts)

    @property
    def collections(self) -> tuple[Collection, ...]:
        return tuple(collection for part in self.parts for collection in part.collections)

    @cached_property
    def records(self) -> list[Record]:
        return [
            dataclasses.replace(record, group=group_in_a_join(record.group, record.source))
            for part in self.parts
            for record in part.records
        ]

    @cached_property
    def digests(self) -> dict[str, str]:
        return functools.reduce(operator.or_, (part.digests for part in self.parts))

    @cached_property
    def scales(self) -> dict[str, float | None]:
        return functools.reduce(operator.or_, (part.scales for part in self.parts))

    def summary(self) -> Summary:
        """Count what the parts hold together; refuses a part that is not prepared."""
        parts = [part.summary() for part in self.parts]
        versions = JOIN.join(dict.fromkeys(part.version for part in parts))
        tests = sum(part.test_images for part in parts)
        return summary_of(self.records, self.config, self.root, versions, tests)

    def check_names(self, filenames: Iterable[str]) -> None:
        check_names(self, filenames)

    def load(self, filenames: Iterable[str] | None = None):
        """Read the labelled images, or those that are named, one part after another, as ``Prepared.load`` does."""
        if filenames is None:
            loaded = [part.load() for part in self.parts]
        else:
            wanted = set(filenames)
            self.check_names(wanted)
            named = [(part, wanted & set(part.digests)) for part in self.parts]
            loaded = [part.load(names) for part, names in named if names] or [self.parts[0].load([])]
        return functools.reduce(lambda first, second: first.concatenate(second), loaded)


def group_in_a_join(group: str, source: str) -> str:
    """Return the name that a patient of a set has beside those of other sets."""
    return f"{source}/{group}" if group and is_own(source) else group


def open_set(config: str, data_dir: Path | None = None) -> Prepared | Joined:
    """Open a configuration, prepared or not yet; refuses a name that there cannot be."""
    parts = parts_of(config)
    return Joined(config, data_dir) if len(parts) > 1 else Prepared(config, data_dir)


def parts_of_set(opened: Prepared | Joined) -> tuple[Prepared, ...]:
    """Return the sets that one joins, or itself."""
    return opened.parts if isinstance(opened, Joined) else (opened,)


def copies_of(opened: Prepared | Joined) -> list[tuple[str, str]]:
    """Return pairs of images of a join that are the same, to the pixel. Within one set copies are split together."""
    seen = {}
    if not isinstance(opened, Joined):
        return []
    pairs = [(seen.setdefault(digest, name), name) for name, digest in opened.digests.items()]
    sources = {record.filename: record.source for record in opened.records}
    return [(first, second) for first, second in pairs if sources[first] != sources[second]]


def shared_patients(opened: Prepared | Joined) -> list[str]:
    """Return the names of patients that several of a user's own sets in a join have, sorted."""
    named = [{record.group for record in part.records} - {""} for part in parts_of_set(opened) if is_own(part.config)]
    return sorted(group for group, count in Counter(itertools.chain(*named)).items() if count > 1)


def patients_in_common(trained: Iterable[str], judging: Iterable[str], data_dir: Path | None = None) -> list[str]:
    """Return the names of patients that own images have in one set and others in another one, as far as prepared."""
    one, other = (_patients_of(set(names), data_dir) for names in (trained, judging))
    return sorted({name for a in one for b in other if a != b for name in one[a] & other[b]})


def _patients_of(filenames: set[str], data_dir: Path | None) -> dict[str, set[str]]:
    """Return each set of own images that some are of -> the names of their patients."""
    found = {}
    for config in sorted(filter(is_own, {name.partition("/")[0] for name in filenames})):
        # Of a set that is not here, or that is damaged, nobody knows.
        with contextlib.suppress(OSError, UserError):
            records = Prepared(config, data_dir).records
            found[config] = {record.group for record in records if record.filename in filenames} - {""}
    return found


def note_on_patients(names: list[str]) -> str:
    """Return a sentence on patients that several sets name, or ""."""
    if not names:
        return ""
    which = f"{counted(len(names), 'name')} of patients, such as {names[0]},"
    return f"Other sets that trained have {which} too: if they are the same people, the score flatters."


def open_parts(configs: Iterable[str], data_dir: Path | None = None) -> list[Prepared]:
    """Open each set that some configurations hold or join, once, in the order of their names."""
    return [Prepared(part, data_dir) for part in sorted({part for config in configs for part in parts_of(config)})]
