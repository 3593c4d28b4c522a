"""What ``monitor`` found, for a terminal and as a page."""

from collections.abc import Iterator
from pathlib import Path

from bach_keras.evidence.notes import DEVICE
from bach_keras.evidence.page import (
    MISSING,
    cards,
    decimal,
    figure,
    figures,
    heading,
    interval,
    items,
    paragraph,
    table,
    write_page,
)
from bach_keras.evidence.plot import Axis, Plot, legend
from bach_keras.wording import counted
from datasets.escape import for_terminal

_HEADS = ("", "here", "95 % interval", "known", "n", "p, corrected", "")
_TITLES = {
    "blur": "blur, median", "tissue": "tissue, median", "stain": "distance of stain, median",
    "features": "distance to training images, median", "confidence": "probability of the label, median",
}  # fmt: skip


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
    return f"{images}: DIFFERENT from {result['compared_with']} in {'; '.join(map(_title, result['drift']))}"


def _title(name: str) -> str:
    return _TITLES.get(name, name).removesuffix(", median")


def as_table(result: dict) -> Iterator[str]:
    """Yield lines for a terminal."""
    rows = [_HEADS, *_rows(result)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        yield for_terminal("  ".join(cells).rstrip())
    yield ""
    for note in [*result["damaged"], *result["notes"]]:
        yield for_terminal(f"- {note}")
    yield for_terminal(in_one_line(result))


def _rows(result) -> Iterator[tuple[str, ...]]:
    for each in result["findings"]:
        if each["statistic"] == "mix":
            yield (each["name"], "", "", "", str(each["n"]), *_verdict(each))
            for label, share in each["value"].items():
                known = decimal((each["known"] or {}).get(label))
                yield f"{each['name']}: {label}", decimal(share), interval(each["ci95"][label]), known, "", "", ""
            continue
        name = _TITLES.get(each["name"], each["name"])
        known = decimal(each["known"])
        yield name, decimal(each["value"]), interval(each["ci95"]), known, str(each["n"]), *_verdict(each)


def _verdict(each) -> tuple[str, str]:
    if each["p_holm"] is None:
        return ("", "")
    p = "< 0.0001" if each["p_holm"] < 1e-4 else decimal(each["p_holm"], 4)
    return p, "DIFFERENT" if each["differs"] else ""


def write_report(path: Path, result: dict) -> None:
    """Write the page."""
    grouped = f"of {result['folders']:,} folders" if result["folders"] else "each image by itself"
    numbers = {
        "images with an answer": f"{result['images']:,}",
        "effective n": (decimal(result["effective_n"], 1), grouped),
        "errors": f"{result['errors']:,}",
        "different": str(len(result["drift"])) if result["drift"] is not None else MISSING,
    }  # fmt: skip
    plots = [_plot(each, result["compared_with"]) for each in result["findings"] if "known_percentiles" in each]
    parts = [
        heading(1, "Are these images like those that the model knows?"),
        *(paragraph(sentence, "loud") for sentence in result["warnings"]),
        *(paragraph(sentence, "loud") for sentence in result["damaged"]),
        paragraph(f"{in_one_line(result)}."),
        paragraph(
            f"Answers in {result['folder']} of {result['model']['folder']}, compared with {result['compared_with']}."
        ),
        cards(numbers),
        table(_HEADS, _rows(result), "What was compared"),
        paragraph(
            "Known: of what it is compared with. p-values are Fisher's for shares, Kolmogorov and Smirnov's for "
            "distributions and a chi-squared test's for the class mix, corrected by Holm for their number; different "
            f"is below {result['level']:g}."
        ),
        items(result["notes"]),
        *([heading(2, "Distributions"), figures(plots)] if plots else []),
        paragraph(DEVICE),
    ]
    write_page(path, "Monitor", parts)


def _plot(each, compared_with) -> str:
    title = _title(each["name"])
    here, known = each["percentiles"], each["known_percentiles"]
    # Beyond its last percent a distribution would take all the room.
    plot = Plot(Axis.around(title, [*here[1:100], *known[1:100]]), Axis("share of images below", 0.0, 1.0))
    for values, style in ((known, "grey"), (here, "one")):
        plot.line([(value, step / 100) for step, value in enumerate(values)], style)
    words = f"Median {decimal(here[50])} here, {decimal(known[50])} of {compared_with}."
    return figure(
        plot.svg(f"{title}: {words}") + legend({compared_with: "line grey", "here": "line one"}), words, title
    )
