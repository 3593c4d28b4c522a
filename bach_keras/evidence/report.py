"""The page of an evaluation, from what its metrics.json, its predictions and its runs hold."""

from pathlib import Path

from bach_keras.evidence import (
    doubt_sections,
    error_sections,
    likeness_sections,
    score_sections,
    stability_sections,
    stains,
    warning_sections,
)
from bach_keras.evidence.notes import DEVICE, synthetic
from bach_keras.evidence.page import contents, heading, items, paragraph, section, setting, table, write_page

TITLE = "Breast histology by a tree of ResNeXt-50 classifiers"

# Each part's name in the address of the page -> its title and what makes it from metrics.json and the predictions.
PARTS = {
    "summary": ("Summary", score_sections.summary),
    "paper": ("Beside the paper", score_sections.beside_paper),
    "scores": ("All scores", score_sections.all_scores),
    "patients": ("Intervals and patients", score_sections.patients),
    "calibration": ("Calibration", doubt_sections.calibration),
    "doubt": ("When to doubt an answer", doubt_sections.doubt),
    "stability": ("Stability", stability_sections.stability),
    "warnings": ("Images that it may not judge", warning_sections.warnings),
    "likeness": ("Are these images like those that trained it?", likeness_sections.likeness),
    "errors": ("Wrong answers", error_sections.errors),
}

# What the sections show that ``sections`` does not make again from metrics.json and the predictions.
UNCHECKED = {"gallery": "the pictures of the wrong answers", "runs": "the training"}


def sections(result: dict, rows: list[dict]) -> list[str]:
    """Return every part of the page that shows figures of an evaluation, exactly as it stands in the page.

    Args:
        result: what metrics.json holds.
        rows: what predictions.csv holds; ``[]`` leaves out what metrics.json does not say.
    """
    parts = [section(name, title, shown) for name, (title, made) in PARTS.items() if (shown := made(result, rows))]
    learned_from = set(result.get("member_configs", ()))
    return [
        *_warnings(result, learned_from),
        *parts,
        *error_sections.captions(result),
        section("judged", "How it was judged", _judged(result)),
        section("limits", "Limits", _limits(result, learned_from)),
    ]


def write_report(path: Path, result: dict, rows: list[dict], runs, thumbnails: dict[str, bytes]) -> None:
    """Write one HTML file without outside parts.

    Args:
        path: the file.
        result: what metrics.json holds.
        rows: what predictions.csv holds.
        runs: the folders of the members' runs.
        thumbnails: of images that are answered wrongly: file name -> a small PNG or JPEG file.
    """
    # These bring TensorFlow, which ``sections`` does without.
    from bach_keras.evidence.run_sections import runs as runs_parts
    from bach_keras.run_folder import Run

    opened = [Run.open(run) for run in runs]
    learned_from = {*result.get("member_configs", ()), *(run.settings["config"] for run in opened)}
    shown = {name: (title, made(result, rows)) for name, (title, made) in PARTS.items()}
    shown |= {
        "gallery": ("Pictures of the wrong answers", error_sections.gallery(result, thumbnails)),
        "judged": ("How it was judged", _judged(result)),
        "runs": ("Training", runs_parts(opened)),
        "limits": ("Limits", _limits(result, learned_from)),
    }
    shown = {name: part for name, part in shown.items() if part[1]}
    top = [*_warnings(result, learned_from), contents({name: title for name, (title, _) in shown.items()})]
    write_page(path, TITLE, [*top, *(section(name, *part) for name, part in shown.items())])


def _warnings(result: dict, learned_from) -> list[str]:
    """Return the head of the page, and what a reader must know before any figure."""
    parts = [synthetic(result["config"], learned_from), heading(1, TITLE), paragraph(DEVICE, "note")]
    return list(filter(None, parts))


def _judged(result: dict) -> list[str]:
    """Return by which images, which members and which settings the figures came about."""
    settings = {
        "kind": "one node" if result.get("kind") == "node" else "a tree of three nodes",
        "config": result["config"],
        "protocol": result["protocol"],
        "split": result["split"],
        "members": result.get("members") or "an export, which names none",
        "configs that they learned from": result.get("member_configs"),
        "images that also chose something": result.get("chosen_on"),
        "views of each image": result.get("views", "not recorded"),
        "digest of the split": result.get("split_digest") or "not recorded",
        "digest of the model": result.get("model_digest") or "not recorded",
    }
    lines = [[name, setting(value)] for name, value in settings.items()]
    parts = [table(["setting", "value"], lines, "The evaluation", {1: "long"})]
    if "stains" in result:
        parts.append(paragraph(f"Stain normalisation: {stains.in_words(result['stains'])}."))
    return parts


def _limits(result: dict, learned_from) -> list[str]:
    limits = [
        DEVICE + " No figure here says that it is safe or useful in the care of a patient.",
        "The images are of one or two collections, of few patients, stained and scanned in few places. Other "
        "laboratories' images may be answered worse than any interval here says.",
        "The intervals are of chance in the choice of patients. They say nothing of other scanners, stains or labels.",
        "Each image is a field that an expert chose and labelled as a whole; a slide has many that are of no class.",
    ]
    if result.get("chosen_on"):
        limits.append("Some of the images that judge here also chose something of the system, which flatters it.")
    if "phantom" in learned_from or result["config"] == "phantom":
        limits.insert(0, "Phantoms are drawn by a program. Figures on them test the program, and nothing else.")
    return [items(limits)]
