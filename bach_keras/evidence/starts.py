"""Systems and runs that differ in the weights that they started from, side by side on the same images."""

from pathlib import Path

from bach_keras.evidence.compare import compare
from bach_keras.evidence.metrics import in_words
from bach_keras.evidence.notes import DEVICE, synthetic
from bach_keras.evidence.page import heading, interval, paragraph, section, table, write_page

_SCORES = ("accuracy", "accuracy_ci95", "balanced_accuracy", "balanced_accuracy_ci95")
_DIFFERENCES = ("difference", "difference_ci95", "balanced_difference", "balanced_difference_ci95")


def side_by_side(folders: dict[str, Path]) -> dict:
    """Compare what was judged from several starts, by patient.

    Args:
        folders: name of a start -> the evaluation, or the run, that came of it; at least two, on the same images.

    Returns:
        ``n``, ``groups``, ``effective_n``, and ``starts``: name -> accuracy and balanced accuracy with their intervals,
        and of all but the first what they are more than the first's (``difference``, ``balanced_difference``).
    """
    (first, place), *others = folders.items()
    found = {name: compare(folder, place) for name, folder in others}
    behind = next(iter(found.values()))
    starts = {first: {key: behind["second"][key] for key in _SCORES}}
    for name, each in found.items():
        starts[name] = {key: each["first"][key] for key in _SCORES} | {key: each[key] for key in _DIFFERENCES}
    return {key: behind[key] for key in ("n", "groups", "effective_n", "of_unknown_patients")} | {"starts": starts}


def write_starts(path: Path, result: dict) -> None:
    """Write the page of several starts, from what ``starts.json`` holds."""
    title = f"Starts side by side on {result['config']}"
    origins = [
        [name, each["source"] or each["init"], each["licence"] or "", each["normalisation"] or ""]
        for name, each in result["starts"].items()
    ]
    body = [
        synthetic(result["config"], {result["config"]}),
        heading(1, title),
        paragraph(DEVICE, "note"),
        table(["start", "weights", "licence", "normalisation"], origins),
        section("accuracy", "Accuracy", [_table(result, "accuracy", "difference")]),
        section("balanced", "Balanced accuracy", [_table(result, "balanced_accuracy", "balanced_difference")]),
        paragraph(
            "Intervals are of 95 %, by patient where patients are known. A difference is of the same images, so its "
            "interval says more than two intervals side by side. Validation images also chose each run's epoch."
        ),
    ]
    write_page(path, title, body)


def _table(result: dict, score: str, difference: str) -> str:
    first, *others = result["starts"]
    heads = ["", "images", first, *(head for name in others for head in (name, f"{name} minus {first}"))]
    rows = []
    for row in result["rows"]:
        why = {"groups": ""} if row["of_unknown_patients"] else {}
        behind = {key: row[key] for key in ("n", "groups", "effective_n")} | {"why": why}
        cells = [row["judged"], row["images"]]
        for name, each in row["starts"].items():
            cells.append(in_words({"accuracy": each[score], "accuracy_ci95": each[f"{score}_ci95"], **behind}))
            if name != first:
                cells.append(f"{each[difference]:+.3f} ({interval(each[f'{difference}_ci95'])})")
        rows.append(cells)
    return table(heads, rows)
