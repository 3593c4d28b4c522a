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
        more = f"{_doubt(row)}{_spread(row)}{_profile(row)}{_warnings(row)}"
        line = f"{for_terminal(row['label']):9} {shares}  {more}  {path}"
        yield row, "\n".join([line, *map(_neighbour, row.get("neighbours", ()))])


def _doubt(row) -> str:
    """Return ``sure`` or ``unsure`` and the set; ``-`` where nothing was calibrated, which is neither."""
    if row.get("unsure") is None:
        return "-"
    return f"{'unsure' if row['unsure'] else 'sure':6} {{{', '.join(map(for_terminal, row['set']))}}}"


def _spread(row) -> str:
    return "" if row.get("spread") is None else f"  spread {row['spread']:.3f}"


def _warnings(row) -> str:
    found = row.get("warnings") or ()
    names = ", ".join(each["name"] for each in found)
    return f"  WARNING: {names} ({'; '.join(map(_warning, found))})" if found else ""


def _warning(found) -> str:
    low, high = found["range"]
    source = f" by {for_terminal(found['source'])}" if found.get("source") else ""
    return f"{found['name']} {found['value']:.3g}{source}, not {low:.3g} to {high:.3g}"


def _neighbour(each) -> str:
    near = f"distance {each['distance']:.3f}, percentile {each['percentile']:.1f}"
    return f"  near    {for_terminal(each['label']):9} {near}  {for_terminal(each['name'])}"


def _profile(row) -> str:
    """Return the colour profile that an image was not converted by."""
    found = row.get("icc")
    return f"  profile not applied ({for_terminal(found['profile'])})" if found and not found["applied"] else ""


def as_json(rows):
    """Yield (row, line), each line one JSON object."""
    for row in rows:
        yield row, json.dumps(row)


def as_csv(rows, classes=CLASSES):
    """Yield (row, line); the first line begins with the header. A set and warnings are names with spaces between."""
    beside = ("spread", "distance", "neighbours", *METADATA, "warnings")
    names = ["path", "label", *classes, "unsure", "set", *beside, "error"]
    head = csv_line(names) + "\n"
    for row in rows:
        values = {**row, **row.get("probabilities", {}), **_metadata(row)}
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


METADATA = ("um_per_pixel", "um_per_pixel_source", "icc", "icc_applied")


def _metadata(row) -> dict:
    """Return the cells of ``METADATA``; they are empty where a file says nothing."""
    size, profile = row.get("um_per_pixel"), row.get("icc")
    cells = (size["value"], size["source"]) if size else (None, None)
    cells += (profile["profile"], "true" if profile["applied"] else "false") if profile else (None, None)
    return dict(zip(METADATA, cells, strict=True))


FORMS = ("table", "json", "csv")


def lines(form: str, rows, classes):
    """Yield (row, line) in one of ``FORMS``; ``classes`` are those that the model answers."""
    if form == "csv":
        return as_csv(rows, classes)
    return as_table(rows) if form == "table" else as_json(rows)
