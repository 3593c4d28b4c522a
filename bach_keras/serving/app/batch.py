"""All images of a drop as HTML: a table to choose from, and their CSV file."""

from collections.abc import Sequence

from bach_keras.serving.app.answers import Answer, data_url
from bach_keras.serving.formats import lines
from bach_keras.wording import counted
from datasets.escape import for_html


def status(answers: Sequence[Answer], total: int) -> str:
    """Return in one sentence how far a drop is done, and how many of its images have no answer or an unsure one."""
    failed = sum("error" in answer.row for answer in answers)
    unsure = sum(bool(answer.row.get("unsure")) for answer in answers)
    said = f"{len(answers)} of {counted(total, 'image')} done" if len(answers) < total else ""
    said = said or f"{counted(total, 'image')} done"
    more = [f"{unsure} unsure"] * bool(unsure) + [f"{failed} cannot be answered"] * bool(failed)
    return f"{said}{': ' if more else ''}{', '.join(more)}."


def table(answers: Sequence[Answer], classes: Sequence[str], chosen: int) -> str:
    """Return the table of a drop, in a box that scrolls; the button of a row shows the image."""
    heads = ["image", "answer", *classes, "sure", "warnings"]
    head = "".join(f'<th scope="col">{for_html(name)}</th>' for name in heads)
    rows = "".join(_row(number, answer, classes, number == chosen) for number, answer in enumerate(answers))
    return (
        '<div class="scroll" role="region" aria-label="Table of the images" tabindex="0"><table class="batch">'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _row(number, answer, classes, is_chosen) -> str:
    small = f'<img alt="" src="{data_url(answer.shown.thumbnail, "image/jpeg")}">' if answer.shown else ""
    current = ' aria-current="true"' if is_chosen else ""
    button = f'<button type="button" data-row="{number}"{current}>{small}<span>{for_html(answer.name)}</span></button>'
    return f'<tr><th scope="row">{button}</th>{_cells(answer.row, classes)}</tr>'


def _cells(row, classes) -> str:
    if "error" in row:
        return f'<td class="error" colspan="{len(classes) + 3}">{for_html(row["error"])}</td>'
    numbers = "".join(f'<td class="number">{row["probabilities"][name]:.3f}</td>' for name in classes)
    sure = {None: "not known", True: "unsure", False: "sure"}[row["unsure"]]
    names = ", ".join(warning["name"] for warning in row.get("warnings") or ())
    warnings = names or ("not known" if row.get("warnings") is None else "none")
    return f"<td><b>{for_html(row['label'])}</b></td>{numbers}<td>{sure}</td><td>{for_html(warnings)}</td>"


def csv_link(answers: Sequence[Answer], classes: Sequence[str]) -> str:
    """Return a link that saves the CSV file that ``predict --format csv`` prints."""
    text = "".join(line + "\n" for _, line in lines("csv", (answer.row for answer in answers), classes))
    address = data_url(text.encode(errors="surrogateescape"), "text/csv;charset=utf-8")
    return f'<a class="save" download="answers.csv" href="{address}">Save the table as CSV</a>'
