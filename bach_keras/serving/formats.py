"""Predicted rows as lines of text: a table to read, JSON lines or CSV."""

import json

from datasets.escape import csv_line, for_terminal
from datasets.labels import CLASSES


def as_table(rows):
    """Yield (row, line) for a terminal: the label, the four probabilities, what a calibrated tree doubts, the path."""
    for row in rows:
        path = for_terminal(row["path"])
        if "error" in row:
            yield row, f"{'error':9} {path}: {for_terminal(row['error'])}"
            continue
        shares = "  ".join(f"{for_terminal(name)} {share:.3f}" for name, share in row["probabilities"].items())
        yield row, f"{for_terminal(row['label']):9} {shares}  {_doubt(row)}  {path}"


def _doubt(row) -> str:
    """Return ``sure`` or ``unsure`` and the set; ``-`` where nothing was calibrated, which is neither."""
    if row.get("unsure") is None:
        return "-"
    return f"{'unsure' if row['unsure'] else 'sure':6} {{{', '.join(map(for_terminal, row['set']))}}}"


def as_json(rows):
    """Yield (row, line), each line one JSON object."""
    for row in rows:
        yield row, json.dumps(row)


def as_csv(rows):
    """Yield (row, line); the first line begins with the header. A set is names with a space between them."""
    names = ["path", "label", *CLASSES, "unsure", "set", "error"]
    head = csv_line(names) + "\n"
    for row in rows:
        values = {**row, **row.get("probabilities", {})}
        if row.get("unsure") is not None:  # an empty cell otherwise: nothing was calibrated
            values |= {"unsure": "true" if row["unsure"] else "false", "set": " ".join(row["set"])}
        yield row, head + csv_line(values.get(name) for name in names)
        head = ""


LINES = {"table": as_table, "json": as_json, "csv": as_csv}
