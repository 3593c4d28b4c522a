"""Answers of ``bulk`` compared with what their model knows."""

from dataclasses import replace
from pathlib import Path

from bach_keras.evidence.findings import Reference, warning
from bach_keras.evidence.neighbours import FILE as INDEX
from bach_keras.evidence.neighbours import Index
from bach_keras.serving.card import outputs_of, warnings_of
from bach_keras.serving.exported import digest_of, read_export_card
from bach_keras.serving.monitor.answers import Answers, read_answers
from bach_keras.serving.monitor.compare import compare
from bach_keras.serving.monitor.known import of_answers, of_training
from datasets.errors import UserError

# What changes answers: those given with other settings are not compared.
_SETTINGS = ("routing", "views", "icc", "um_per_pixel")


def monitor(folder: Path, model: Path, by_folder: bool = False, baseline: Path | None = None) -> dict:
    """Compare the answers in a folder with the training images of their model, or with those of ``baseline``.

    Args:
        folder: what ``bulk --out`` wrote.
        model: the export that answered.
        by_folder: count the images of a folder as one group.
        baseline: answers of the same model, of a time when all was well.

    Returns:
        What ``compare`` does, with ``model`` and ``warnings``, the sentences that must be read first.
    """
    place, card = read_export_card(model)
    digest = digest_of(place)
    known, notes = _of_export(place, card)
    answers = read_answers(folder, digest, by_folder)
    if baseline is not None:
        if baseline.resolve() == folder.resolve():
            raise UserError(f"--baseline {baseline} is the same folder: name the answers of another time.")
        before = read_answers(baseline, digest, by_folder)
        _check_same_settings(answers, before)
        if not before.n:
            raise UserError(f"{baseline} holds no answer to compare with: name another --baseline.")
        known, notes = of_answers(before), before.damaged
    elif answers.options.get("views") not in (None, views := outputs_of(card).views):
        known = _without_features(known)
        notes = [
            *notes, f"The answers are of another number of views than the model's {views}: distances to the training "
            "images are not compared.",
        ]  # fmt: skip
    result = compare(answers, known)
    return result | {
        "model": {"folder": str(place), "digest": digest},
        "warnings": list(warnings_of(card)),
        "notes": [*result["notes"], *notes],
    }


def _of_export(place: Path, card: dict) -> tuple[Reference, list[str]]:
    index, notes = None, []
    try:
        if "index" in card:
            index = Index.read(place / "assets.extra" / INDEX, card["index"]["sha256"])
    except UserError as error:
        notes.append(f"Neither the class mix nor distances are compared: {error}")
    return of_training(card, index), notes


def _check_same_settings(answers: Answers, before: Answers) -> None:
    for name in _SETTINGS:
        now, then = answers.options.get(name), before.options.get(name)
        if now != then:
            raise UserError(
                f"{answers.folder} was answered with {name} {now}, and {before.folder} with {then}: such answers "
                "cannot be compared. Answer one of them again."
            )


def _without_features(known: Reference) -> Reference:
    return replace(
        known,
        shares={name: each for name, each in known.shares.items() if name != warning("features")},
        measures={name: each for name, each in known.measures.items() if name != "features"},
    )
