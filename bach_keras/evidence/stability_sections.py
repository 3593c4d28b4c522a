"""What a stability card says, for a page and for a terminal."""

import math

from bach_keras.evidence.metrics import behind
from bach_keras.evidence.page import decimal, details, figure, interval, paragraph, table
from bach_keras.evidence.page import figures as side_by_side
from bach_keras.evidence.plot import Axis, Plot, legend
from bach_keras.evidence.score_sections import title_of
from datasets.perturbations import PERTURBATIONS

_STYLES = ("one", "two", "three", "grey")
_HEADS = ("change", "grade", "kept", "95 % interval", "accuracy", "95 % interval")
_WORDS = (
    "Each image was changed a little, as it was read, in ways that leave what it shows. Kept is the share of the "
    "images whose answer stayed what it was for the unchanged image, right or wrong. A node is asked about the images "
    "that its two answers are about. A lower magnification shows more than the image holds, so its border is mirrored."
)


def stability(result: dict, rows: list[dict]) -> list[str]:
    """Return the part of a report on how often answers are kept when images change a little."""
    card = result.get("stability")
    if not card:
        why = "no stability.json of this system and these images was in --out; `stability` writes one."
        return [paragraph(f"Not measured: {why}", "soft")]
    judges = card["judges"]
    first, *others = judges
    tables = {name: table(_HEADS, lines(judge), _caption(name, judge)) for name, judge in judges.items()}
    return [
        paragraph(_WORDS),
        paragraph(_sample(card)),
        _summary(judges),
        _pictures(judges),
        tables[first],
        *(details(f"Every change, {title_of(name)}", tables[name]) for name in others),
    ]


def lines(judge: dict) -> list[list[str]]:
    """Return the cells of each change of a judge: its name, its grade, the share kept and the accuracy."""
    found = [["as it is", "", "", "", *_share(judge, "accuracy")]]
    for name, each in judge["changes"].items():
        change = PERTURBATIONS[name]
        for at in each["grades"]:
            found.append([change.title, change.named(at["grade"]), *_share(at, "kept"), *_share(at, "accuracy")])
        found.append([change.title, "every grade", *_share(each, "kept"), "", ""])
    return found


def _share(at: dict, key: str) -> list[str]:
    return [decimal(at[key]), interval(at[f"{key}_ci95"])]


def as_table(card: dict):
    """Yield a card as lines for people."""
    for name, judge in card["judges"].items():
        yield f"{_caption(name, judge)}:"
        cells = [_HEADS, *lines(judge)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        yield from ("  " + "  ".join(map(str.ljust, line, widths)).rstrip() for line in cells)


def _sample(card: dict) -> str:
    some = f"{card['n']} of the {card['of']} images that judge (seed {card['seed']}, spread over the patients)"
    return f"Asked about {some}. Blur is in pixels of the network's square, which has {card['image_size']} a side."


def _caption(name: str, judge: dict) -> str:
    rest = ""
    if judge["accuracy_n"] != judge["n"]:
        rest = f"; accuracy of {judge['accuracy_n']} of them" if judge["accuracy_n"] else "; accuracy not measured"
    return f"{title_of(name)}, {behind(judge)}{rest}"


def _summary(judges: dict) -> str:
    rows = [
        [each.title, *("{} ({})".format(*_share(judge["changes"][name], "kept")) for judge in judges.values())]
        for name, each in PERTURBATIONS.items()
    ]
    styles = dict.fromkeys(range(1, len(judges) + 1), "path")
    return table(["", *map(title_of, judges)], rows, "Share of answers that stay the same at every grade", styles)


def _pictures(judges: dict) -> str:
    """Return for each change the share of answers kept against its grade, a line for each judge."""
    shown = {name: each for name, each in PERTURBATIONS.items() if not each.names}
    kept = [at["kept"] for judge in judges.values() for name in shown for at in judge["changes"][name]["grades"]]
    # One axis for all of them, so that they can be compared.
    low = max(0.0, math.floor(min(kept) * 10 - 1e-9) / 10)
    return side_by_side([_picture(name, judges, low) for name in shown])


def _picture(name: str, judges: dict, low: float) -> str:
    change = PERTURBATIONS[name]
    # An image that is not changed keeps its answer.
    unchanged = [] if change.unchanged is None else [(change.unchanged, 1.0)]
    ends = sorted([*change.grades, *(grade for grade, _ in unchanged)])
    plot = Plot(Axis(change.title, ends[0], ends[-1]), Axis("share kept", low, 1.0))
    keys, said = {}, []
    for (judge, found), style in zip(judges.items(), _STYLES, strict=False):
        points = sorted([(at["grade"], at["kept"]) for at in found["changes"][name]["grades"]] + unchanged)
        plot.line(points, style)
        plot.dots(points, style, 3)
        keys[title_of(judge)] = f"dot {style}"
        said.append(f"{title_of(judge)} {decimal(min(share for _, share in points))}")
    words = f"At its worst: {', '.join(said)}."
    return figure(plot.svg(f"{change.title}: {words}") + legend(keys), words)
