"""Predicted rows as lines of text: a table to read, JSON lines or CSV."""

import csv
import io
import json

from datasets.labels import CLASSES


def as_table(rows):
    """Yield (row, line) for a terminal: the label, the four probabilities, the path."""
    for row in rows:
        if "error" in row:
            yield row, f"{'error':9} {row['path']}: {row['error']}"
            continue
        shares = "  ".join(f"{name} {share:.3f}" for name, share in row["probabilities"].items())
        yield row, f"{row['label']:9} {shares}  {row['path']}"


def as_json(rows):
    """Yield (row, line), each line one JSON object."""
    for row in rows:
        yield row, json.dumps(row)


def as_csv(rows):
    """Yield (row, line); the first line begins with the header."""
    for number, row in enumerate(rows):
        buffer = io.StringIO()
        names = ["path", "label", *CLASSES, "error"]
        writer = csv.DictWriter(buffer, names, extrasaction="ignore", lineterminator="\n")
        if not number:
            writer.writeheader()
        writer.writerow({**row, **row.get("probabilities", {})})
        yield row, buffer.getvalue().rstrip("\n")


LINES = {"table": as_table, "json": as_json, "csv": as_csv}
