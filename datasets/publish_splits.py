"""Writes the published split files and the page that counts them: ``python -m datasets.publish_splits``."""

from collections import Counter
from pathlib import Path

from datasets.catalogue import CONFIGS, get_collections
from datasets.labels import LABELS
from datasets.splits import (
    PUBLISHED,
    PUBLISHED_PROTOCOLS,
    SPLITS,
    VALIDATION,
    leak_note,
    make_split,
    published_path,
    write_split,
)
from datasets.whole import whole

PAGE = PUBLISHED / "README.md"

_HEAD = """# Published splits

One CSV file, `filename,split`, for each config and protocol at seed 0. `python -m datasets.publish_splits` writes
them and this page; [docs/data.md](../../docs/data.md) says what the protocols are. Training and evaluation read these
files, so everybody judges on the same images.
"""


def publish() -> None:
    """Write every published split, and README.md beside them."""
    for config in CONFIGS:
        for protocol in PUBLISHED_PROTOCOLS:
            write_split(published_path(config, protocol), make_split(_records(config), config, protocol))
    write_page()


def write_page(path: Path = PAGE) -> None:
    with whole(path) as partial:
        partial.write_text(page(), encoding="utf-8")


def page() -> str:
    """Return README.md: how many images each published split holds, and what it cannot exclude."""
    heads = ["config", "protocol", *SPLITS, *(f"{VALIDATION}: {label}" for label in LABELS)]
    lines = [_HEAD, _row(heads), _row(["---"] * len(heads))]
    notes = []
    for config in CONFIGS:
        for protocol in PUBLISHED_PROTOCOLS:
            split = make_split(_records(config), config, protocol)
            counts = Counter(split.values())
            labels = Counter(record.label for record in _records(config) if split[record.filename] == VALIDATION)
            note = leak_note(config, protocol).replace(protocol, protocol.partition("/")[0])
            if note and note not in notes:
                notes.append(note)
            mark = f" [{notes.index(note) + 1}]" if note else ""
            lines.append(
                _row([
                    config, f"[`{protocol}`]({published_path(config, protocol).name}){mark}",
                    *(counts[name] for name in SPLITS), *(labels[label] for label in LABELS),
                ])
            )  # fmt: skip
    return "\n".join([*lines, "", *(f"- [{number}] {note}" for number, note in enumerate(notes, 1)), ""])


def _records(config):
    return [record for collection in get_collections(config) for record in collection.records]


def _row(cells) -> str:
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    publish()
