"""The parts of a page in HTML: whole by itself, without a script, and with no request to anywhere."""

import base64
import math
import re
from collections.abc import Iterable
from pathlib import Path

from datasets.escape import for_html
from datasets.whole import whole

MISSING = "not measured"

END = "</main></body></html>\n"

# What the page itself brings is all that a browser may load for it.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_NUMBER = re.compile(r"[-+−]?\d[\d.,]*( ?%)?(( to | → )[-+−]?\d[\d.,]*)?( of \d+)?")


def write_page(path: Path, title: str, parts: Iterable[str]) -> None:
    """Write parts of HTML as one page."""
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    head = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<link rel="icon" href="data:,">',
        f"<title>{for_html(title)}</title><style>{style}</style></head><body><main>",
    ]
    with whole(path) as partial:
        partial.write_text("\n".join([*head, *filter(None, parts), END]), encoding="utf-8")


def heading(level: int, text) -> str:
    """Return a heading; what is given is text, not HTML."""
    return f"<h{level}>{for_html(text)}</h{level}>"


def paragraph(text, style: str = "") -> str:
    """Return a paragraph; what is given is text, not HTML."""
    return f"<p{f' class={style}' if style else ''}>{for_html(text)}</p>"


def items(texts) -> str:
    """Return a list of text, or "" where there is none."""
    lines = "".join(f"<li>{for_html(text)}</li>" for text in texts)
    return f"<ul>{lines}</ul>" if lines else ""


def section(name: str, title: str, parts) -> str:
    """Return parts of HTML under a heading that ``contents`` can lead to; ``name`` is a word of ours."""
    return f'<section id="{name}">' + "\n".join([heading(2, title), *filter(None, parts)]) + "</section>"


def contents(names: dict[str, str]) -> str:
    """Return links to sections: name -> title."""
    links = "".join(f'<li><a href="#{name}">{for_html(title)}</a></li>' for name, title in names.items())
    return f'<nav aria-label="Contents"><ul>{links}</ul></nav>'


def details(summary: str, inner: str) -> str:
    """Return HTML that stays folded until it is asked for, and is unfolded in print."""
    return f"<details><summary>{for_html(summary)}</summary>{inner}</details>"


def cards(values: dict) -> str:
    """Return names and values as cards; a value may be a pair, of which the second is a remark."""
    cells = []
    for name, value in values.items():
        value, remark = value if isinstance(value, tuple) else (value, "")  # noqa: PLW2901
        small = f"<small>{for_html(remark)}</small>" if remark else ""
        cells.append(f"<div><dt>{for_html(name)}</dt><dd>{for_html(value)}{small}</dd></div>")
    return f'<dl class="cards">{"".join(cells)}</dl>'


def table(heads, rows, caption: str = "", styles: dict | None = None) -> str:
    """Return a table in a box of its own that scrolls; its cells are text, not HTML.

    The first cell of a row is the row's heading. ``styles`` are classes of columns by their number.
    """
    rows = [[str(cell) for cell in row] for row in rows]
    styles = {**_numbers(rows), **(styles or {})}

    def cells(tag, row, extra=""):
        for place, cell in enumerate(row):
            style = styles.get(place, "")
            if cell == MISSING and tag == "td":
                style = f"{style} missing".strip()
            name = "th" if place == 0 and tag == "td" else tag
            scope = ' scope="row"' if name != tag else extra
            look = f' class="{style}"' if style else ""
            yield f"<{name}{look}{scope}>{for_html(cell)}</{name}>"

    head = "".join(cells("th", heads, ' scope="col"'))
    body = "".join(f"<tr>{''.join(cells('td', row))}</tr>" for row in rows)
    title = f"<caption>{for_html(caption)}</caption>" if caption else ""
    label = for_html(caption or "Table: " + ", ".join(str(head) for head in heads if head))
    return (
        f'<div class="scroll" role="region" aria-label="{label}" tabindex="0"><table>{title}'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _numbers(rows) -> dict[int, str]:
    """Return the class of those columns after the first that hold numbers and nothing else."""
    columns = list(zip(*rows, strict=True))[1:]
    return {
        place: "number"
        for place, column in enumerate(columns, 1)
        if all(cell in ("", MISSING) or _NUMBER.fullmatch(cell) for cell in column)
    }


def figure(picture: str, caption: str, title: str = "") -> str:
    """Return a picture, which is HTML, over its caption, which is text."""
    bold = f"<b>{for_html(title)}</b> " if title else ""
    return f"<figure>{picture}<figcaption>{bold}{for_html(caption)}</figcaption></figure>"


def figures(pictures: list[str]) -> str:
    """Return several figures side by side, as many as there is room for."""
    style = "figures four" if len(pictures) == 4 else "figures"
    return f'<div class="{style}">{"".join(pictures)}</div>'


def matrices(pictures: list[str]) -> str:
    """Return several confusion matrices, each as wide as it is."""
    return f'<div class="matrices">{"".join(pictures)}</div>'


def pair(picture: str, *parts: str) -> str:
    """Return a figure beside other parts of HTML."""
    return f'<div class="pair">{picture}<div>{"".join(parts)}</div></div>'


def image(content: bytes, alt: str) -> str:
    """Return a PNG or JPEG file as an image that is part of the page."""
    kind = "png" if content.startswith(b"\x89PNG") else "jpeg"
    return f'<img alt="{for_html(alt)}" src="data:image/{kind};base64,{base64.b64encode(content).decode()}">'


def decimal(value, digits: int = 3) -> str:
    """Return a number with a fixed count of digits; what was not measured in words; anything else as it is."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return MISSING
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:.{digits}f}"


def interval(pair, digits: int = 3) -> str:
    """Return [low, high] as ``0.889 to 0.978``."""
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        return MISSING
    return f"{decimal(pair[0], digits)} to {decimal(pair[1], digits)}"


def percent(value, digits: int = 0) -> str:
    """Return a share of 1 as ``20 %``."""
    return MISSING if value is None else f"{decimal(100 * value, digits)} %"


def setting(value) -> str:
    """Return what a setting says, without more digits than it needs."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(setting, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{name}: {setting(part)}" for name, part in value.items()) or "none"
    return str(value)
