"""What new answers are compared with: what an export knows of its training images, or answers of before."""

from dataclasses import dataclass

from bach_keras.evidence.drift import Known
from bach_keras.evidence.neighbours import Index
from bach_keras.evidence.ranges import SIDES, percentiles
from bach_keras.serving.card import calibration_of, ranges_of
from bach_keras.serving.monitor.answers import Answers
from datasets.labels import CLASSES

ANY = "any warning"


def warning(name: str) -> str:
    return f"warning: {name}"


@dataclass(frozen=True)
class Reference:
    """Shares and distributions, each with the effective number of images behind it."""

    words: str  # what it is
    shares: dict[str, tuple[float, float]]  # warnings, and unsure
    measures: dict[str, Known]
    mix: tuple[dict[str, float], float] | None  # label -> images
    is_chosen_mix: bool  # whether somebody chose the images by their labels, as those of training are


def of_training(card: dict, index: Index | None) -> Reference:
    """Return what a model card, and the index beside it, know of the training images."""
    ranges, calibration = ranges_of(card), calibration_of(card)
    shares, measures, mix = {}, {}, None
    if ranges is not None:
        patients = float(ranges.groups)
        beyond = 1 - ranges.percentile / 100
        shares = {ANY: (ranges.false_alarms, patients)}
        shares |= {warning(name): (beyond, patients) for name in SIDES if name in ranges.bounds}
        shares |= {warning("scale"): (0.0, patients)} if ranges.field else {}
        measures = {name: Known(each, patients) for name, each in (ranges.percentiles or {}).items()}
    if index is not None:
        groups = [known.group for known in index.images]
        patients = float(len(set(filter(None, groups))) + groups.count(""))
        measures.setdefault("features", Known(percentiles(index.own), patients))
        labels = [known.label for known in index.images]
        mix = {label: float(labels.count(label)) for label in CLASSES if label in labels}, patients
    if calibration is not None:
        shares["unsure"] = (calibration.share, float(calibration.groups))
    return Reference("the training images", shares, measures, mix, is_chosen_mix=True)


def of_answers(answers: Answers) -> Reference:
    """Return what answers of before say."""
    shares, effective = {}, answers.effective_of
    if answers.judged:
        of = effective(answers.judged)
        names = (*SIDES, "scale", "symmetry")
        shares = {warning(name): (answers.warned[name] / answers.judged, of) for name in names}
        shares = {ANY: (answers.warned_any / answers.judged, of), **shares}
    if answers.calibrated:
        shares["unsure"] = (answers.unsure / answers.calibrated, effective(answers.calibrated))
    tallies = answers.measures | {"confidence": answers.confidence}
    measures = {name: Known(each.percentiles(), effective(each.n)) for name, each in tallies.items() if each.n}
    mix = ({label: float(count) for label, count in answers.labels.items()}, answers.effective) if answers.n else None
    return Reference(f"the answers in {answers.folder}", shares, measures, mix, is_chosen_mix=False)
