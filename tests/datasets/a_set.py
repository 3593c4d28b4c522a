"""Sets that are prepared without pixels: what needs the tables alone can be tried in no time."""

import dataclasses
import json
from pathlib import Path

from datasets.catalogue import VERSION, Record


def write_set(root: Path, config: str, records: list[Record], **more: dict[str, object]) -> Path:
    """Write the tables of a set; ``more`` are fields of its rows, each file name -> value.

    The digest of an image is its name's, unless it is given.
    """
    folder = root / "bach_bisque" / config / VERSION
    folder.mkdir(parents=True)
    rows = [
        {**dataclasses.asdict(record), "sha256": record.filename}
        | {field: values[record.filename] for field, values in more.items() if record.filename in values}
        for record in records
    ]
    for name, content in (("dataset_info.json", {}), ("metadata.json", {"train": rows})):
        (folder / name).write_text(json.dumps(content))
    return root


def own_records(name: str, labels: dict[str, int], images: int = 2, patients: bool = True) -> list[Record]:
    """Return records of an own set: so many patients of each label, each with some images."""
    return [
        Record(
            f"own-{name}/{label}/{patient}-{image}.png", label, f"{label}{patient}" if patients else "", f"own-{name}"
        )
        for label, count in labels.items()
        for patient in range(count)
        for image in range(images)
    ]
