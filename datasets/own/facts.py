"""What a set of own images was made from, kept beside its records as ``own.json``."""

import json
from dataclasses import dataclass
from pathlib import Path

from datasets.bach_bisque.prepared import Prepared
from datasets.digest import sha256_of
from datasets.errors import UserError
from datasets.own.listed import Listed
from datasets.own.staging import Staged, status_of
from datasets.whole import write_json
from datasets.wording import counted

NAME = "own.json"


@dataclass(frozen=True)
class Labelled:
    """An image as its record will have it."""

    listed: Listed
    filename: str
    label: str  # one of ``datasets.labels.LABELS``
    group: str  # the patient, "" where it is unknown


def file_facts(staged: Staged) -> dict:
    """Return what tells later whether an image's file has changed."""
    return {
        "bytes": staged.status[0],
        "mtime_ns": staged.status[1],
        "sha256": staged.file_sha256,
        "um_per_pixel": staged.um_per_pixel,
    }


def write_facts(folder: Path, facts: dict) -> None:
    write_json(folder / NAME, facts)


def read_facts(folder: Path) -> dict:
    """Return the facts of a set, {} where they cannot be read: then any source counts as another."""
    try:
        facts = json.loads((folder / NAME).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def copies_in_words(folder: Path) -> str:
    """Say how many copies were found when a set was prepared; "" where there were none, or they cannot be read."""
    facts = read_facts(folder)
    within, elsewhere, near = (_count(facts.get(name)) for name in ("copies", "copies_elsewhere", "near_copies"))
    # An earlier version kept all pairs and did not count them.
    near = max(near, _count(facts.get("near_copies_found")))
    said = [
        f"{counted(within, 'picture')} under several names" if within else "",
        f"{counted(elsewhere, 'image')} of another set too" if elsewhere else "",
        f"{counted(near, 'pair')} of the same tissue" if near else "",
    ]
    return ", ".join(filter(None, said))


def _count(found) -> int:
    return found if isinstance(found, int) else len(found) if isinstance(found, list) else 0


def changes(prepared: Prepared, images: list[Labelled]) -> list[str]:
    """Say where a source is no longer what a set was made from, in a clause for each kind of change.

    A file counts as unchanged where its size and time are, and else its bytes are compared.
    """
    rows = {row["filename"]: row for row in prepared.tables["train"]}
    files = read_facts(prepared.folder).get("files", {})
    now = {image.filename: image for image in images}
    both = [image for image in images if image.filename in rows]
    found = {
        "new": sorted(set(now) - set(rows)),
        "gone": sorted(set(rows) - set(now)),
        "of another label": [i.filename for i in both if rows[i.filename]["label"] != i.label],
        "of another patient": [i.filename for i in both if rows[i.filename]["group"] != i.group],
        "of another scale": [
            i.filename for i in both if _scale(i, files.get(i.filename)) != rows[i.filename].get("um_per_pixel")
        ],
        "changed": [i.filename for i in both if not _is_same(i.listed.path, files.get(i.filename))],
    }
    return [f"{len(names)} {what} ({names[0]})" for what, names in found.items() if names]


def _scale(image: Labelled, facts: dict | None) -> float | None:
    return image.listed.um_per_pixel or (facts or {}).get("um_per_pixel")


def _is_same(path: Path, facts: dict | None) -> bool:
    if not isinstance(facts, dict):
        return False
    try:
        size, changed, *_ = status_of(path)
        if size != facts.get("bytes"):
            return False
        return changed == facts.get("mtime_ns") or sha256_of(path) == facts.get("sha256")
    except (OSError, UserError):
        return False
