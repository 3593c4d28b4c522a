"""How the images that judge a system differ from those that trained it: what ``monitor`` compares, by patient."""

from collections.abc import Iterator

import numpy as np

from bach_keras.evidence import drift
from bach_keras.evidence.drift import Known, Tally
from bach_keras.evidence.finding_sections import title
from bach_keras.evidence.findings import ANY, EDGES, FEW, TRAINING, Reference, Sample, corrected, of_measures, of_share
from bach_keras.evidence.intervals import effective_n, groups_of
from bach_keras.evidence.ranges import PERCENTILES, SIDES, Ranges, outside
from bach_keras.fields import check, number, whole
from bach_keras.wording import counted

# A median that lies beyond so many of the training images is named also where chance cannot be excluded.
_FAR = 0.95

_TRAINING = {"images": whole(1), "patients": whole(1), "false_alarms": number(0, 1)}


def training_of(ranges: Ranges) -> dict | None:
    """Return what metrics.json says of the training images; None of an older export, which kept too little."""
    if ranges.percentiles is None:
        return None
    percentiles = {name: list(values) for name, values in ranges.percentiles.items()}
    counts = {"images": ranges.n, "patients": ranges.groups, "false_alarms": ranges.false_alarms}
    return {**counts, "percentiles": percentiles}


def check_training(training: dict, within: str) -> dict:
    """Return what metrics.json says of the training images, checked; a FieldError names a wrong field."""
    check(training, _TRAINING, within=within)
    check(training.get("percentiles"), {}, dict.fromkeys(SIDES, PERCENTILES), within=f"{within}.percentiles")
    return training


def likeness(rows: list[dict], bounds: dict, training: dict) -> dict | None:
    """Return the findings on the images of rows; None where some of them were not measured.

    Args:
        rows: of predictions.csv.
        bounds: of the ranges of the training images: what lies outside is a warning.
        training: as ``training_of`` returns it.
    """
    if any(row["measured"] is None for row in rows):
        return None
    groups = [row["group"] for row in rows]
    sample, tallies = Sample(len(rows), effective_n(groups)), {}
    for name in SIDES:
        tallies[name] = Tally(EDGES[name])
        tallies[name].add(np.array([row["measured"].get(name, np.nan) for row in rows], float))
    patients = float(training["patients"])
    measures = {name: Known(tuple(values), patients) for name, values in training["percentiles"].items()}
    known = Reference(TRAINING, {ANY: (training["false_alarms"], patients)}, measures)
    warned = sum(bool(outside(row["measured"], bounds)) for row in rows)
    found = corrected([of_share(sample, known, ANY, (warned, len(rows))), *of_measures(sample, known, tallies)])
    differing = [each["name"] for each in found if each["differs"]]
    return {
        "n": len(rows),
        "groups": groups_of(groups),
        "effective_n": sample.effective,
        "differs": differing if len(rows) >= drift.LEAST else None,
        "findings": found,
        "training": training,
    }


def in_words(said: dict) -> str:
    """Return the line of a result: in what the images differ, how far, and how little of few patients is known."""
    measures = [each for each in said["findings"] if "known_percentiles" in each]
    tests = counted(sum(each["p"] is not None for each in said["findings"]), "comparison")
    if said["differs"] is None:
        verdict = f"{counted(said['n'], 'image')} are too few to test for a difference"
    elif not said["differs"]:
        verdict = f"no difference that chance does not explain, in {tests}"
    else:
        named = [
            _standing(each) if each in measures else "share of warnings" for each in said["findings"] if each["differs"]
        ]
        verdict = f"DIFFERENT in {len(named)} of {tests}: {', '.join(named)}"
    far = [each for each in measures if not each["differs"] and max(_beyond(each)) >= _FAR]
    sentences = [
        f"Compared with {said['training']['images']} training images of "
        f"{counted(said['training']['patients'], 'patient')}: {verdict}",
        *_warned(said),
        *([f"Far from them, though it may be by chance: {', '.join(map(_standing, far))}"] if far else []),
    ]
    if said["differs"] is not None and said["effective_n"] < FEW:
        sentences.append(
            f"Of {counted(said['groups'], 'patient')}, as much as {said['effective_n']:.1f} independent images, only "
            "large differences can be shown"
        )
    return ". ".join(sentences) + "."


def _warned(said) -> Iterator[str]:
    share = next(each for each in said["findings"] if each["name"] == ANY)
    yield f"{share['value']:.0%} of these images have a warning, of the training images {share['known']:.0%}"


def _standing(each) -> str:
    below, above = _beyond(each)
    side, share = ("above", below) if below >= above else ("below", above)
    value, others = each["value"], "all" if share == 1 else f"{share:.0%}"
    return f"{title(each['name'])} (median {value:.3g}, {side} that of {others} of them)"


def _beyond(each) -> tuple[float, float]:
    """Return of how many training images, at least, the value lies below and above the median of these."""
    low, high = Known(tuple(each["known_percentiles"]), 1.0).below(each["value"])
    return float(low), float(1 - high)
