"""Images that are the same pixel for pixel, within a set of own images and in the other sets that are prepared."""

import logging
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from datasets.bach_bisque.prepared import Prepared, own_sets
from datasets.catalogue import CONFIGS
from datasets.errors import UserError
from datasets.own.facts import NAME
from datasets.own.names import is_own
from datasets.wording import counted

LOG = logging.getLogger(__name__)

_LISTED = 3


def same_within(rows: Iterable[dict]) -> list[list[str]]:
    """Return the file names of each picture that is there more than once."""
    of_digest = defaultdict(list)
    for row in rows:
        of_digest[row["sha256"]].append(row["filename"])
    return [sorted(names) for names in of_digest.values() if len(names) > 1]


def same_elsewhere(rows: Iterable[dict], others: Iterable[Prepared]) -> list[list[str]]:
    """Return each file name with the name that another prepared set has for the same picture."""
    held = defaultdict(set)
    for prepared in others:
        for row in prepared.tables["train"] + prepared.tables.get("test", []):
            held[row["sha256"]].add(name_beside_others(row["filename"], row["source"]))
    return [[row["filename"], other] for row in rows for other in sorted(held.get(row["sha256"], ()))]


def name_beside_others(filename: str, source: str) -> str:
    """Return an image's name with its set in front, as that of an own image has it already."""
    return filename if is_own(source) else f"{source}/{filename}"


def other_sets(config: str, data_dir: Path | None) -> list[Prepared]:
    """Return every other set that is prepared in a folder of data sets."""
    found = []
    for name in (*CONFIGS, *own_sets(data_dir)):
        if name == config:
            continue
        prepared = Prepared(name, data_dir)
        try:
            if prepared.is_there:
                found.append(prepared)
        except (OSError, UserError) as error:
            LOG.warning(f"Copies of images of {name} are not looked for: {error}")
    return found


def report(within: list[list[str]], elsewhere: list[list[str]], labels: dict[str, str]) -> None:
    """Name the copies that were found; ``labels`` gives the label of each file name of the set."""
    if within:
        LOG.warning(
            f"Of the same pixels: {counted(len(within), 'picture')} under several names: {_listed(within)}. A split "
            "keeps them together."
        )
    if differing := [names for names in within if len({labels[name] for name in names}) > 1]:
        named = [[f"{name} ({labels[name]})" for name in names] for names in differing]
        LOG.warning(f"Of each of these one label is wrong: {counted(len(differing), 'picture')}: {_listed(named)}.")
    if elsewhere:
        LOG.warning(
            f"Of the same pixels as an image of another prepared set: {counted(len(elsewhere), 'image')}: "
            f"{_listed(elsewhere)}. What trains on the one must not be judged on the other."
        )


def _listed(several: list[list[str]]) -> str:
    more = f"; and {len(several) - _LISTED} more, in {NAME}" if len(several) > _LISTED else ""
    return "; ".join(" = ".join(names) for names in several[:_LISTED]) + more
