"""What ``monitor`` found, for a terminal and as a page."""

from collections.abc import Iterator
from pathlib import Path

from bach_keras.evidence.finding_sections import HEADS, plots, rows, title
from bach_keras.evidence.notes import DEVICE
from bach_keras.evidence.page import (
    MISSING,
    cards,
    decimal,
    figures,
    heading,
    items,
    paragraph,
    table,
    write_page,
)
from bach_keras.wording import counted
from datasets.escape import for_terminal


def in_one_line(result: dict) -> str:
    """Return whether the answers differ from what they are compared with."""
    images = counted(result["images"], "image")
    if result["drift"] is None:
        return f"{images}: no p-values of so few"
    tested = sum(each["p"] is not None for each in result["findings"])
    if not tested:
        return f"{images}: nothing could be compared"
    if not result["drift"]:
        return f"{images}: no difference from {result['compared_with']} that chance does not explain ({tested} tests)"
    return f"{images}: DIFFERENT from {result['compared_with']} in {'; '.join(map(title, result['drift']))}"


def as_table(result: dict) -> Iterator[str]:
    """Yield lines for a terminal."""
    lines = [HEADS, *rows(result["findings"])]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for row in lines:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        yield for_terminal("  ".join(cells).rstrip())
    yield ""
    for note in [*result["damaged"], *result["notes"]]:
        yield for_terminal(f"- {note}")
    yield for_terminal(in_one_line(result))


def write_report(path: Path, result: dict) -> None:
    """Write the page."""
    grouped = f"of {result['folders']:,} folders" if result["folders"] else "each image by itself"
    numbers = {
        "images with an answer": f"{result['images']:,}",
        "effective n": (decimal(result["effective_n"], 1), grouped),
        "errors": f"{result['errors']:,}",
        "different": str(len(result["drift"])) if result["drift"] is not None else MISSING,
    }  # fmt: skip
    pictures = plots(result["findings"], result["compared_with"])
    parts = [
        heading(1, "Are these images like those that the model knows?"),
        *(paragraph(sentence, "loud") for sentence in result["warnings"]),
        *(paragraph(sentence, "loud") for sentence in result["damaged"]),
        paragraph(f"{in_one_line(result)}."),
        paragraph(
            f"Answers in {result['folder']} of {result['model']['folder']}, compared with {result['compared_with']}."
        ),
        cards(numbers),
        table(HEADS, rows(result["findings"]), "What was compared"),
        paragraph(
            "Known: of what it is compared with. p-values are Fisher's for shares, Kolmogorov and Smirnov's for "
            "distributions and a chi-squared test's for the class mix, corrected by Holm for their number; different "
            f"is below {result['level']:g}."
        ),
        items(result["notes"]),
        *([heading(2, "Distributions"), figures(pictures)] if pictures else []),
        paragraph(DEVICE),
    ]
    write_page(path, "Monitor", parts)
