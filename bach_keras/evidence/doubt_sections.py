"""The parts of a report on what the probabilities mean, and on the answers that are better not given."""

import statistics

from bach_keras.evidence import figures
from bach_keras.evidence.errors import is_right, judges
from bach_keras.evidence.metrics import in_words
from bach_keras.evidence.page import MISSING, decimal, heading, interval, pair, paragraph, percent, table
from bach_keras.evidence.page import figures as side_by_side
from bach_keras.evidence.score_sections import title_of
from bach_keras.evidence.scoring import headline, scores_of

FIELDS = {"log_loss": "log loss", "brier": "Brier score", "calibration_error": "calibration error"}


def calibration(result: dict, rows: list[dict]) -> list[str]:
    """Return the reliability diagrams, and what a temperature changed."""
    scores, before = scores_of(result), result.get("uncalibrated") or {}
    pictures = [figures.reliability(score, before.get(name), title_of(name)) for name, score in scores.items()]
    parts = [
        paragraph(
            "An answer of 90 % confidence should be right nine times in ten. Dots below the diagonal are answers that "
            "are surer than they are right; a larger dot is of more images. The calibration error is the mean distance "
            "from the diagonal, weighted by the images, over ten fixed bins."
        )
    ]
    if before:
        parts += _chosen(result)
        lines = []
        for name, score in scores.items():
            pairs = [((before.get(name) or {}).get(key), score.get(key)) for key in FIELDS]
            lines.append([title_of(name), *[f"{decimal(was)} → {decimal(now)}" for was, now in pairs]])
        caption = "Before → after calibration; of each score, less is better"
        parts.append(table(["", *FIELDS.values()], lines, caption))
    else:
        parts.append(_missing(result, "uncalibrated", "no temperature was fitted for this system."))
    return [*parts, side_by_side(pictures) if any(pictures) else _missing(result, "reliability", "no bins are given.")]


def doubt(result: dict, rows: list[dict]) -> list[str]:
    """Return accuracy against coverage, what is called unsure, prediction sets, and the spread over views."""
    unsure = result.get("unsure")
    parts = [heading(3, "Unsure answers, and accuracy against coverage")]
    if result.get("coverage"):
        words = "If the least confident images are left to a person, the other answers should be right more often."
        picture = figures.coverage(result["coverage"], unsure)
        parts += [paragraph(words), pair(picture, *_unsure(result, unsure))]
    else:
        parts += [_missing(result, "coverage", "this evaluation does not record it."), *_unsure(result, unsure)]
    return [*parts, heading(3, "Prediction sets"), *_sets(result), *_spread(headline(result)[0], rows)]


def _unsure(result, unsure) -> list[str]:
    if not unsure:
        return [_missing(result, "unsure", "no threshold was fitted, so no answer is called unsure or sure.")]
    errors, caught = unsure.get("errors"), unsure.get("errors_unsure")
    # Whether the patients are known is said of all images together.
    sure = {**(unsure.get("sure") or {}), "why": result.get("why") or {}}
    lines = [
        ["images that are called unsure", percent(unsure.get("share"), 1)],
        ["wrong answers among all", decimal(errors, 0)],
        ["wrong answers that are called unsure", decimal(caught, 0)],
        ["their share of the wrong answers", percent(caught / errors, 1) if errors and caught is not None else MISSING],
        ["accuracy of all answers", _accuracy(headline(result)[1])],
        # Evaluations of earlier versions have no interval of it.
        ["accuracy of the sure answers", _accuracy({"accuracy": unsure.get("accuracy_of_sure"), **sure})],
    ]
    return [*_chosen(result), table(["", "value"], lines, "What the threshold calls unsure")]


def _accuracy(score: dict) -> str:
    return in_words(score) if score.get("accuracy_ci95") else decimal(score.get("accuracy"))


def _chosen(result: dict) -> list[str]:
    """Say that images which chose temperatures and thresholds flatter them."""
    if not (count := result.get("chosen_on")):
        return []
    what = f"{count} of the {result['n']} images also chose the epoch, the temperatures or the thresholds"
    return [paragraph(f"{what}: for new images these bring less than is shown here.", "soft")]


def _sets(result) -> list[str]:
    if not result.get("sets"):
        return [_missing(result, "sets", "no prediction sets were fitted.")]
    lines = []
    for level, found in result["sets"].items():
        counts = f"{round(found['covered'] * found['n'])} of {found['n']}"
        ends = interval(found["covered_ci95"])
        size = decimal(found["mean_size"], 2)
        lines.append([percent(float(level)), counts, decimal(found["covered"]), ends, size])
    heads = ["level", "truth in the set", "their share", "95 % interval", "mean size"]
    words = (
        "A prediction set holds the classes that cannot be ruled out at a level (split conformal). A level of 95 % is "
        "not offered: a few dozen patients cannot bear it."
    )
    return [paragraph(words), table(heads, lines, "Prediction sets")]


def _spread(judge: str, rows: list[dict]) -> list[str]:
    """Return how far the views of an image disagree, of right and of wrong answers."""
    spreads = {True: [], False: []}
    for row in rows:
        if row.get("spread") is not None and judges(row, judge):
            spreads[is_right(row, judge)].append(row["spread"])
    if not any(spreads.values()):
        return []
    lines = [
        [f"{words} answers", str(len(spreads[right])), decimal(statistics.median(spreads[right] or [float("nan")]))]
        for words, right in (("right", True), ("wrong", False))
    ]
    return [
        heading(3, "Spread over the views of an image"),
        table(["", "images", "median spread"], lines, "How far the probabilities of one image's views lie apart"),
    ]


def _missing(result: dict, key: str, otherwise: str) -> str:
    return paragraph(f"Not measured: {(result.get('why') or {}).get(key, otherwise)}", "soft")
