"""Answers compared with what is known: what differs, by how much, and whether chance explains it."""

from bach_keras.evidence import drift
from bach_keras.serving.monitor.answers import Answers
from bach_keras.serving.monitor.known import ANY, Reference, warning
from bach_keras.wording import counted
from datasets.labels import CLASSES

MIX = "class mix"
# With a smaller effective number of images a note says how little can be shown.
FEW = 10


def compare(answers: Answers, known: Reference) -> dict:
    """Return what ``monitor --format json`` prints; ``findings`` are in the order of a report."""
    found = [*_warnings(answers, known), *_measures(answers, known), *_answers(answers, known)] if answers.n else []
    for each, adjusted in zip(found, drift.holm([each["p"] for each in found]), strict=True):
        each["p_holm"] = adjusted
        each["differs"] = None if adjusted is None else adjusted < drift.LEVEL
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


def _finding(answers, name, statistic, test, n) -> dict:
    effective = answers.effective_of(n)
    return {
        "name": name, "statistic": statistic, "n": n, "effective_n": round(effective, 1), "value": None, "ci95": None,
        "known": None, "known_effective_n": None, "test": test, "p": None,
    }  # fmt: skip


def _share(answers, known, name, count, n, both=False) -> dict:
    found = _finding(answers, name, "share", "Fisher, two-sided" if both else "Fisher, more", n)
    share, effective = count / n, answers.effective_of(n)
    found |= {"value": share, "ci95": drift.share_interval(share, effective)}
    if name in known.shares:
        expected, behind = known.shares[name]
        found |= {"known": expected, "known_effective_n": behind}
        if answers.n >= drift.LEAST:
            found["p"] = drift.share_p_value(share, effective, expected, behind, both)
    return found


def _warnings(answers, known) -> list[dict]:
    if not answers.judged:
        return []
    # Warnings that can be there, and those that are.
    names = [name for name in known.shares if name not in (ANY, "unsure")]
    names += [warning(name) for name in sorted(answers.warned) if warning(name) not in names]
    found = [_share(answers, known, ANY, answers.warned_any, answers.judged)]
    return found + [
        _share(answers, known, name, answers.warned[name.removeprefix(warning(""))], answers.judged) for name in names
    ]


def _measures(answers, known) -> list[dict]:
    found = []
    for name, tally in {**answers.measures, "confidence": answers.confidence}.items():
        if not tally.n:
            continue
        row, effective = _finding(answers, name, "median", "Kolmogorov-Smirnov", tally.n), answers.effective_of(tally.n)
        row |= {"value": tally.quantile(0.5), "ci95": tally.median_interval(effective)}
        row["percentiles"] = [tally.quantile(step / 100) for step in range(101)]
        if name in known.measures:
            reference = known.measures[name]
            row |= {"known": reference.percentiles[50], "known_effective_n": reference.effective}
            row["known_percentiles"] = list(reference.percentiles)
            if answers.n >= drift.LEAST:
                row["p"] = tally.p_value(effective, reference)
        found.append(row)
    return found


def _answers(answers, known) -> list[dict]:
    found = []
    if answers.calibrated:
        found.append(_share(answers, known, "unsure", answers.unsure, answers.calibrated, both=True))
    row, effective = _finding(answers, MIX, "mix", "chi-squared", answers.n), answers.effective
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
