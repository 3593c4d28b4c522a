"""Prediction sets that hold the true class for a stated share of images of new patients, and a threshold for doubt.

Split conformal prediction with the score 1 - p of the true class, by patient: images of one patient are alike, so they
are not as much evidence as images of as many patients. Each patient's images share the weight of one, and one further
patient, of whom nothing is known, stands for the next (Lee, Barber & Willett 2023, hierarchical conformal prediction).
"""

import numpy as np

from bach_keras.evidence.calibrate import patient_weights
from bach_keras.wording import counted
from datasets.errors import UserError

# Graphs compute in float32, which differs from float64 by less than this: thresholds are rounded down, and less by it.
_STEP = 1e-6


def least_probability(p_true, patients, level: float) -> float:
    """Return the threshold t: a set of the classes with p >= t holds the true one for a share ``level`` of images.

    Args:
        p_true: float [N], the probability of each image's true class.
        patients: int [N], equal for images of one patient.
        level: such as 0.9; refused where so few patients cannot bear it.
    """
    count = len(set(np.asarray(patients).tolist()))
    check_patients(count, level)
    # Of the patients and the next one, who may lie anywhere, so much must be above the threshold.
    weights = patient_weights(patients) * count / (count + 1)
    order = np.argsort(p_true)[::-1]
    above = np.cumsum(weights[order])
    return float(np.asarray(p_true)[order[np.searchsorted(above, level - 1e-12)]])


def check_patients(count: int, level: float) -> None:
    """Refuse a level that so many patients cannot bear."""
    if count < (needed := patients_needed(level)):
        raise UserError(
            f"Sets of {level:.0%} are out of reach with {counted(count, 'patient')}, as a part of a single patient "
            f"would decide them: they need at least {needed}. Calibrate on more patients, such as with another "
            "--config or --protocol."
        )


def patients_needed(level: float) -> int:
    """Return how many patients a level needs, so that below the threshold is one of them at least, beside the next."""
    return int(np.ceil(2 / (1 - level) - 1e-9)) - 1


def doubt_threshold(confidence, patients, share: float) -> float:
    """Return the threshold below which an answer is unsure: at most a share of the images, by patients' weight, is.

    Args:
        confidence: float [N], the largest probability of each image's answer.
    """
    order = np.argsort(confidence)
    # The first answer that may not be unsure any more: with it, more than the share would be.
    up_to = np.cumsum(patient_weights(patients)[order])
    return float(np.asarray(confidence)[order[min(np.searchsorted(up_to, share + 1e-12, "right"), len(order) - 1)]])


def rounded_down(threshold: float) -> float:
    """Return a threshold as it is written: an image that chose it still reaches it in float32."""
    return max(0.0, round((np.floor(threshold / _STEP) - 1) * _STEP, 6))


def sets(probabilities, threshold: float) -> np.ndarray:
    """Return the prediction sets, bool [N, 4], of probabilities [N, 4]; the likeliest class is always in its own."""
    probabilities = np.asarray(probabilities)
    likeliest = np.eye(probabilities.shape[1], dtype=bool)[probabilities.argmax(axis=1)]
    return (probabilities >= threshold) | likeliest
