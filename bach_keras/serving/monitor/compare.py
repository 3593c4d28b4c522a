"""Answers compared with what is known: what differs, by how much, and whether chance explains it."""

from bach_keras.evidence import drift
from bach_keras.evidence.findings import ANY, FEW, Reference, corrected, finding, of_measures, of_share, warning
from bach_keras.serving.monitor.answers import Answers
from bach_keras.wording import counted
from datasets.labels import CLASSES

MIX = "class mix"


def compare(answers: Answers, known: Reference) -> dict:
    """Return what ``monitor --format json`` prints; ``findings`` are in the order of a report."""
    found = corrected(_findings(answers, known)) if answers.n else []
    # What the training images are of was chosen, so a mix like theirs is not to be expected of anything.
    counts = [each for each in found if each["differs"] and not (each["name"] == MIX and known.is_chosen_mix)]
    return {
        "kind": "monitor",
        "folder": str(answers.folder),
        "compared_with": known.words,
        "images": answers.n,
        "errors": answers.rows - answers.n,
        "effective_n": round(answers.effective, 1) if answers.n else 0.0,
        "folders": None if answers.folders is None else len(answers.folders),
        "level": drift.LEVEL,
        "drift": [each["name"] for each in counts] if answers.n >= drift.LEAST else None,
        "findings": found,
        "notes": [*answers.notes, *_notes(answers, known)],
        "damaged": answers.damaged,
    }


def _findings(answers, known) -> list[dict]:
    tallies = {**answers.measures, "confidence": answers.confidence}
    return [*_warnings(answers, known), *of_measures(answers.sample, known, tallies), *_answers(answers, known)]


def _warnings(answers, known) -> list[dict]:
    if not answers.judged:
        return []
    # Warnings that can be there, and those that are.
    names = [name for name in known.shares if name not in (ANY, "unsure")]
    names += [warning(name) for name in sorted(answers.warned) if warning(name) not in names]
    counts = {ANY: answers.warned_any, **{name: answers.warned[name.removeprefix(warning(""))] for name in names}}
    return [of_share(answers.sample, known, name, (count, answers.judged)) for name, count in counts.items()]


def _answers(answers, known) -> list[dict]:
    found = []
    if answers.calibrated:
        found.append(of_share(answers.sample, known, "unsure", (answers.unsure, answers.calibrated), both=True))
    row, effective = finding(answers.sample, MIX, "mix", "chi-squared", answers.n), answers.effective
    reference, behind = known.mix or ({}, None)
    labels = [label for label in CLASSES if label in answers.labels or label in reference]
    labels += sorted(set(answers.labels) - set(labels))
    shares = {label: answers.labels[label] / answers.n for label in labels}
    row |= {"value": shares, "ci95": {name: drift.share_interval(each, effective) for name, each in shares.items()}}
    if reference:
        counts = [reference.get(label, 0.0) for label in labels]
        row |= {"known": {name: each / sum(counts) for name, each in zip(labels, counts, strict=True)}}
        row["known_effective_n"] = behind
        if answers.n >= drift.LEAST:
            row["p"] = drift.mix_p_value([answers.labels[label] for label in labels], effective, counts, behind)
    return [*found, row]


def _notes(answers, known) -> list[str]:
    notes = []
    if not answers.n:
        return ["No image has an answer, so nothing is compared."]
    if answers.n < drift.LEAST:
        notes.append(
            f"{answers.n} images are too few for p-values, which are given from {drift.LEAST} on: read the intervals."
        )
    if answers.folders is None:
        notes.append(
            "Each image counts as independent. Images of one patient or slide are alike, and the p-values are then too "
            "small: where each has a folder of its own, give --group-by folder."
        )
    elif answers.effective < FEW:
        notes.append(
            f"{counted(len(answers.folders), 'folder')} with an effective n of {answers.effective:.1f}: of so few, "
            "hardly any difference can be shown. The intervals say how little is known."
        )
    if not answers.judged:
        notes.append("The model knows no ranges of its training images, so there are no warnings and no measures.")
    elif "blur" not in known.measures:
        notes.append(
            "The model's card is of an earlier version and holds no percentiles of the training images: of blur, "
            "tissue and stain, warnings are compared and distributions are not. Export its runs again."
        )
    if answers.unscaled and warning("scale") in known.shares:
        notes.append(
            f"{answers.unscaled:,} of {answers.n:,} images do not say how large a pixel is: they cannot have a warning "
            "of scale, and their blur is measured as if they had the training images' scale."
        )
    if known.mix and known.is_chosen_mix:
        notes.append(
            "The class mix of the training images was chosen, and theirs are true labels and not answers. Another mix "
            "is no fault of the images and does not count as drift; --baseline compares answers with answers."
        )
    return notes
