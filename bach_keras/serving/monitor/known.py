"""What new answers are compared with: what an export knows of its training images, or answers of before."""

from dataclasses import replace

from bach_keras.evidence.drift import Known
from bach_keras.evidence.findings import ANY, TRAINING, Reference, of_ranges, warning
from bach_keras.evidence.neighbours import Index
from bach_keras.evidence.ranges import SIDES, percentiles
from bach_keras.serving.card import calibration_of, ranges_of
from bach_keras.serving.monitor.answers import Answers
from datasets.labels import CLASSES


def of_training(card: dict, index: Index | None) -> Reference:
    """Return what a model card, and the index beside it, know of the training images."""
    ranges, calibration = ranges_of(card), calibration_of(card)
    known = of_ranges(ranges) if ranges else Reference(TRAINING, {}, {}, is_chosen_mix=True)
    shares, measures, mix = dict(known.shares), dict(known.measures), None
    if index is not None:
        groups = [image.group for image in index.images]
        patients = float(len(set(filter(None, groups))) + groups.count(""))
        measures.setdefault("features", Known(percentiles(index.own), patients))
        labels = [image.label for image in index.images]
        mix = {label: float(labels.count(label)) for label in CLASSES if label in labels}, patients
    if calibration is not None:
        shares["unsure"] = (calibration.share, float(calibration.groups))
    return replace(known, shares=shares, measures=measures, mix=mix)


def of_answers(answers: Answers) -> Reference:
    """Return what answers of before say."""
    shares, effective = {}, answers.sample.effective_of
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
