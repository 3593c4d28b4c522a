"""The parts of a report that show scores: in short, beside the paper's, of each node, and of the patients behind."""

from collections import Counter

from bach_keras.evidence import figures
from bach_keras.evidence.errors import SYSTEM, judges
from bach_keras.evidence.metrics import in_words
from bach_keras.evidence.notes import chosen
from bach_keras.evidence.page import (
    MISSING,
    cards,
    decimal,
    heading,
    interval,
    items,
    matrices,
    pair,
    paragraph,
    table,
)
from bach_keras.evidence.paper import FIGURE_3, PAPER, PUBLISHED, RIGHT
from bach_keras.evidence.scoring import headline, scores_of
from bach_keras.tree import NODES
from bach_keras.wording import counted
from datasets.config_names import own_parts
from datasets.escape import for_html
from datasets.labels import CLASSES

WHOLE = "Whole system"

# Key of metrics.json -> its name here, in the order of the table.
METRICS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "auroc": "macro AUROC",
    "kappa": "quadratic kappa",
    "log_loss": "log loss",
    "brier": "Brier score",
    "calibration_error": "calibration error",
    "classwise_calibration_error": "classwise calibration error",
}
BY_CLASS = {"sensitivity": "sensitivity", "specificity": "specificity", "f1": "F1"}


def title_of(node: str) -> str:
    """Return the name that the paper prints of a node, or of the system."""
    return WHOLE if node == SYSTEM else NODES[node].title if node in NODES else node


def classes_of(node: str) -> tuple[str, ...]:
    """Return the classes that a node, or the system, tells apart."""
    return NODES[node].classes if node in NODES else CLASSES


def summary(result: dict, rows: list[dict]) -> list[str]:
    """Return what a reader in haste needs."""
    name, score = headline(result)
    what = "four-class accuracy" if name == SYSTEM else f"accuracy of {title_of(name)}"
    ends = f"95 % interval {interval(score.get('accuracy_ci95'))}" if score.get("accuracy_ci95") else ""
    parts = [
        f'<p class="headline"><b>{decimal(score.get("accuracy"))}</b> '
        f"<span>{for_html(what)} <small>{for_html(ends)}</small></span></p>"
    ]
    if score.get("accuracy") is None:
        parts.append(paragraph(f"{what.capitalize()} was not measured: {_why(score, 'accuracy')}"))
    else:
        parts.append(paragraph(f"{what[0].upper() + what[1:]} {in_words(score)}."))
    if name != SYSTEM:
        parts.append(paragraph(f"{title_of(name)} tells {' from '.join(classes_of(name))}."))
        if result.get("kind") != "node":
            reason = _why(result, "accuracy")
            parts.append(paragraph(f"The four-class accuracy is not the headline. {reason}", "note"))
    parts.append(_cards(name, score, [row for row in rows if judges(row, name)]))
    split = f"Config {result['config']}, protocol {result['protocol']}, {result['split']} images."
    parts += [paragraph(split), chosen(result), *[paragraph(note, "note") for note in result["split_notes"]]]
    return parts


def _cards(name: str, score: dict, rows: list[dict]) -> str:
    unknown = sum(not row.get("group") for row in rows)
    patients = (decimal(score.get("groups"), 0), "behind the images")
    size = (decimal(score.get("effective_n"), 1), "independent images that say as much")
    if unknown:
        # Images of unknown patients may share them.
        patients = (f"at most {patients[0]}", f"{counted(unknown, 'image')} of unknown patients")
        size = (f"at most {size[0]}", size[1])
    if rows and unknown == len(rows):
        patients = ("unknown", "each image counts as one")
    values = {
        "images": (decimal(score.get("n"), 0), "were judged"),
        "patients": patients,
        "effective n": size,
        "balanced accuracy": (decimal(score.get("balanced_accuracy")), interval(score.get("balanced_accuracy_ci95"))),
        "AUROC": (
            decimal(score.get("auroc")),
            "of its two classes" if name in NODES else "macro, one against the rest",
        ),
        "calibration error": (decimal(score.get("calibration_error")), "0 is best"),
    }
    return cards(values)


def _why(score: dict, metric: str) -> str:
    return str((score.get("why") or {}).get(metric, "this evaluation does not record it."))


def beside_paper(result: dict, rows: list[dict]) -> list[str]:
    """Return our accuracies beside the paper's Table 1, and what there is of its Figure 3."""
    scores = {name: _known(score) for name, score in scores_of(result).items()}
    columns = {node: scores.get(node) for node in NODES} | {"whole": scores.get(SYSTEM)}
    heads = ["accuracy", "here", "95 % interval", *[f"paper, {row}" for row in PUBLISHED]]
    titles = {name: "Whole" if name == "whole" else title_of(name) for name in columns}
    lines = [
        [
            titles[name],
            decimal(score and score["accuracy"]),
            interval(score and score["accuracy_ci95"]),
            *[f"{given[name]:.3f}" if name in given else "" for given in PUBLISHED.values()],
        ]
        for name, score in columns.items()
    ]
    ours = {titles[name]: score for name, score in columns.items()}
    published = {row: {titles[name]: value for name, value in given.items()} for row, given in PUBLISHED.items()}
    whole, config = columns["whole"], result.get("config", "")
    right = [[f"paper, {row}", f"{right} of {n}", f"{n - right}"] for row, (right, n) in RIGHT.items()]
    if whole:
        count = round(whole["accuracy"] * whole["n"]) if isinstance(whole["n"], int) else MISSING
        right.insert(0, ["measured here", f"{count} of {whole['n']}", _less(whole["n"], count)])
    return [
        paragraph(
            f"Table 1 of {PAPER}: init is BACH, init+ext is BACH with BISQUE. Its split is random over images, so one "
            "patient's may be on both sides; a split by patient is harder, and its figures do not compare as equals."
            + (" The images here are the user's own, which may be easier or harder." if own_parts(config) else "")
        ),
        pair(
            figures.beside_paper(ours, published),
            table(heads, lines, "Table 1 of the paper, and what is measured here"),
        ),
        heading(3, "Figure 3"),
        paragraph(FIGURE_3),
        table(["whole system", "right", "wrong"], right, "What the paper says of the whole system, beside ours"),
        matrices(_matrices(scores_of(result))),
    ]


def _less(total, count) -> str:
    return str(total - count) if isinstance(count, int) else MISSING


def _known(score: dict) -> dict | None:
    return score if score.get("accuracy") is not None and score.get("accuracy_ci95") else None


def _matrices(scores: dict[str, dict]) -> list[str]:
    return [
        figures.confusion(score["confusion_matrix"], classes_of(name), title_of(name))
        for name, score in scores.items()
        if score.get("confusion_matrix")
    ]


def all_scores(result: dict, rows: list[dict]) -> list[str]:
    """Return every metric of the whole and of each node, and each class's."""
    scores = scores_of(result)
    heads = ["", *map(title_of, scores)]
    lines = [
        ["images", *[decimal(score.get("n"), 0) for score in scores.values()]],
        ["patients", *[decimal(score.get("groups"), 0) for score in scores.values()]],
        ["effective n", *[decimal(score.get("effective_n"), 1) for score in scores.values()]],
    ]
    for key, name in METRICS.items():
        lines.append([name, *[decimal(score.get(key)) for score in scores.values()]])
        if any(f"{key}_ci95" in score for score in scores.values()):
            lines.append(["95 % interval", *[interval(score.get(f"{key}_ci95")) for score in scores.values()]])
    classes = [
        [f"{title_of(name)}: {each}", *[decimal((score.get(key) or {}).get(each)) for key in BY_CLASS]]
        for name, score in scores.items()
        if score.get("accuracy") is not None
        for each in classes_of(name)
    ]
    return [
        table(heads, lines, "The whole and each node"),
        table(["class", *BY_CLASS.values()], classes, "Each class against the rest"),
        _reasons(scores),
    ]


def _reasons(scores: dict[str, dict]) -> str:
    """Return why something could not be measured, each reason once."""
    whose: dict[str, list[str]] = {}
    names = {**METRICS, **BY_CLASS}
    for node, score in scores.items():
        why = score.get("why") or {}
        if score.get("accuracy") is None and "accuracy" in why:
            whose.setdefault(str(why["accuracy"]), []).append(f"all scores of {title_of(node)}")
            continue
        # Other parts of the page say what else is missing.
        for metric in [name for name in names if name in why]:
            whose.setdefault(str(why[metric]), []).append(f"{names[metric]} of {title_of(node)}")
    if SYSTEM in scores and (left_out := [title_of(node) for node in NODES if node not in scores]):
        whose["No image here is of a class that could judge it."] = [f"all scores of {node}" for node in left_out]
    lines = [f"{', '.join(missing)}: {reason}" for reason, missing in whose.items()]
    return heading(3, "What was not measured, and why") + items(lines) if lines else ""


def patients(result: dict, rows: list[dict]) -> list[str]:
    """Return how many patients the figures rest on, and what that does to their intervals."""
    name, _ = headline(result)
    own = [row for row in rows if judges(row, name)]
    sizes = sorted(Counter(row["group"] for row in own if row.get("group")).values(), reverse=True)
    unknown = sum(not row.get("group") for row in own)
    parts = [
        paragraph(
            "Images of one patient resemble each other, so many of one patient say less than as many of different "
            "ones. The intervals take whole patients at a time. The effective n (Kish) is the count of independent "
            "images that would say as much: the square of the count of images over the sum of the squares of each "
            "patient's count."
        )
    ]
    if unknown:
        parts.append(
            paragraph(
                f"The patient of {unknown} of {counted(len(own), 'image')} is not known, so each counts as a patient "
                "of its own. If they share patients, the intervals are too narrow.",
                "note",
            )
        )
    lines = [
        [
            title_of(node),
            decimal(each.get("n"), 0),
            decimal(each.get("groups"), 0),
            decimal(each.get("effective_n"), 1),
            decimal(each.get("accuracy")),
            interval(each.get("accuracy_ci95")),
        ]
        for node, each in scores_of(result).items()
    ]
    heads = ["", "images", "patients", "effective n", "accuracy", "95 % interval"]
    rests = table(heads, lines, "What each accuracy rests on")
    return [*parts, pair(figures.group_sizes(sizes), rests) if len(sizes) > 1 else rests]
