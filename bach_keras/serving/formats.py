"""Predicted rows as lines of text: a table to read, JSON lines or CSV."""

import json

from datasets.escape import csv_line, for_terminal
from datasets.labels import CLASSES


def as_table(rows):
    """Yield (row, line) for a terminal: label, probabilities, what a calibrated tree doubts, spread, path.

    Each neighbour is on a line of its own behind it.
    """
    for row in rows:
        path = for_terminal(row["path"])
        if "error" in row:
            yield row, f"{'error':9} {path}: {for_terminal(row['error'])}"
            continue
        shares = "  ".join(f"{for_terminal(name)} {share:.3f}" for name, share in row["probabilities"].items())
        line = f"{for_terminal(row['label']):9} {shares}  {_doubt(row)}{_spread(row)}{_warnings(row)}  {path}"
        yield row, "\n".join([line, *map(_neighbour, row.get("neighbours", ()))])


def _doubt(row) -> str:
    """Return ``sure`` or ``unsure`` and the set; ``-`` where nothing was calibrated, which is neither."""
    if row.get("unsure") is None:
        return "-"
    return f"{'unsure' if row['unsure'] else 'sure':6} {{{', '.join(map(for_terminal, row['set']))}}}"


def _spread(row) -> str:
    return "" if row.get("spread") is None else f"  spread {row['spread']:.3f}"


def _warnings(row) -> str:
    names = ", ".join(each["name"] for each in row.get("warnings") or ())
    return f"  WARNING: {names}" if names else ""


def _neighbour(each) -> str:
    near = f"distance {each['distance']:.3f}, percentile {each['percentile']:.1f}"
    return f"  near    {for_terminal(each['label']):9} {near}  {for_terminal(each['name'])}"


def as_json(rows):
    """Yield (row, line), each line one JSON object."""
    for row in rows:
        yield row, json.dumps(row)


def as_csv(rows, classes=CLASSES):
    """Yield (row, line); the first line begins with the header. A set and warnings are names with spaces between."""
    names = ["path", "label", *classes, "unsure", "set", "spread", "distance", "neighbours", "warnings", "error"]
    head = csv_line(names) + "\n"
    for row in rows:
        values = {**row, **row.get("probabilities", {})}
        if row.get("unsure") is not None:  # an empty cell otherwise: nothing was calibrated
            values |= {"unsure": "true" if row["unsure"] else "false", "set": " ".join(row["set"])}
        if row.get("warnings") is not None:  # an empty cell otherwise: the model has no ranges
            values["warnings"] = " ".join(each["name"] for each in row["warnings"]) or "none"
        if "neighbours" in row:
            values["neighbours"] = "; ".join(map(_in_words, row["neighbours"]))
        yield row, head + csv_line(values.get(name) for name in names)
        head = ""


def _in_words(each) -> str:
    return f"{each['name']} ({each['label']}, distance {each['distance']:.3f}, percentile {each['percentile']:.1f})"


FORMS = ("table", "json", "csv")


def lines(form: str, rows, classes):
    """Yield (row, line) in one of ``FORMS``; ``classes`` are those that the model answers."""
    if form == "csv":
        return as_csv(rows, classes)
    return as_table(rows) if form == "table" else as_json(rows)
