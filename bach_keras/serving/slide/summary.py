"""``summary.json``: what was done with a slide, and what makes it finished."""

from collections import Counter
from pathlib import Path

from bach_keras.fields import FieldError, read_object
from bach_keras.serving.slide.tiles import AnsweredSlide
from datasets.digest import sha256_of
from datasets.labels import CLASSES

NAME = "summary.json"
# One more wherever answers change, or the order in which tiles are asked: unfinished work then starts again.
SCHEMA = 1


def counts(slide: AnsweredSlide, ranges) -> dict:
    """Return how many tiles were answered, and how; shares are of those that were."""
    rows = [each.row for each in slide.tiles]
    good = [row for row in rows if "error" not in row]
    by_label = Counter(row["label"] for row in good)
    calibrated = [row["unsure"] for row in good if row.get("unsure") is not None]
    farthest = ranges.bounds["features"][1] if ranges and "features" in ranges.bounds else None
    far = [row["distance"] > farthest for row in good if row.get("distance") is not None and farthest is not None]
    return {
        "tiles": {
            "answered": len(good),
            "failed": len(rows) - len(good),
            "unsure": sum(calibrated) if calibrated else None,
            "far_from_training": sum(far) if far else None,
        },
        "classes": {
            name: {"tiles": by_label[name], "share": by_label[name] / len(good) if good else None} for name in CLASSES
        },
    }


def digests(folder: Path, names) -> dict[str, str]:
    """Return the SHA-256 of each file."""
    return {name: sha256_of(folder / name) for name in sorted(names)}


def read_summary(folder: Path) -> dict | None:
    """Return the summary of a slide that was finished; None where there is none that this version wrote."""
    try:
        found = read_object(folder / NAME)
    except (FieldError, OSError):
        return None
    is_ours = found.get("schema") == SCHEMA and all(isinstance(found.get(each), dict) for each in ("settings", "files"))
    return found if is_ours else None


def is_whole(folder: Path, summary: dict) -> bool:
    """Say whether all files that a summary names are there as they were written."""
    try:
        return digests(folder, summary["files"]) == summary["files"]
    except OSError:
        return False
