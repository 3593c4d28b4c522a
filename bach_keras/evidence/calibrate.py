"""One temperature for a network: what its logits are divided by, so that its probabilities mean what they say.

Temperature scaling (Guo et al. 2017) changes no answer, only how sure it is. It is fitted on validation images, whose
patients the network never trained on, and judged by cross-fitting: each patient by a temperature from the others.
"""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp, softmax

from bach_keras.evidence.correlation import codes
from bach_keras.evidence.metrics import scores
from bach_keras.tree import TEMPERATURES
from bach_keras.wording import counted
from datasets.errors import UserError

# The least to fit on. Each fit of the cross-fitting must see several patients, and one number is all that is fitted:
# of BACH's validation images, norbe's are 71 of 7 patients and invis's 61 of 19.
LEAST_IMAGES, LEAST_GROUPS = 30, 6
FOLDS = 5
# Of temperatures before any image is seen: the middle, and the deviation of the logarithm. Networks that are trained to
# the end are too sure (Guo et al. 2017 found 1.1 to 3), and these images, which chose the epoch, hide some of it.
PRIOR_MIDDLE, PRIOR_DEVIATION = 1.5, 0.7

# What a fit says of the probabilities before and after it.
JUDGED = ("log_loss", "brier", "calibration_error", "reliability")


def fit_checked(logits, targets, groups, classes: tuple[str, ...]) -> dict:
    """Fit a network's temperature and judge it, or refuse too little to fit on.

    Args:
        logits: float [N, views, 2].
        targets: int [N], each image's answer.
        groups: N names of patients, "" where unknown: such an image counts as one of a patient of its own.
        classes: the names of the two answers.

    Returns:
        ``temperature``, from all images; ``n``, ``groups``, and ``fold_temperatures`` of the cross-fitting; ``before``
        and ``after``, what ``JUDGED`` names, each over all images: after, each by a temperature from other patients.
    """
    logits, targets = np.asarray(logits, float), np.asarray(targets, int)
    patients = codes(groups)
    check_enough(targets, patients, classes)
    fold_temperatures, answers = [], np.empty((len(targets), 2))
    for others, held in _folds(patients):
        temperature = fit(logits[others], targets[others], patients[others])
        fold_temperatures.append(temperature)
        answers[held] = probabilities(logits[held], temperature)
    before, after = (scores(targets, each, classes, list(groups)) for each in (probabilities(logits), answers))
    return {
        "temperature": fit(logits, targets, patients),
        "n": len(targets),
        "groups": len(set(patients)),
        "fold_temperatures": fold_temperatures,
        "before": {name: before[name] for name in JUDGED},
        "after": {name: after[name] for name in JUDGED},
    }


def check_enough(targets, patients, classes: tuple[str, ...]) -> None:
    """Refuse too few images, patients or answers to fit a temperature on."""
    n, count = len(targets), len(set(patients))
    if n < LEAST_IMAGES or count < LEAST_GROUPS:
        raise UserError(
            f"A temperature needs at least {LEAST_IMAGES} validation images of at least {LEAST_GROUPS} patients, and "
            f"there are {counted(n, 'image')} of {counted(count, 'patient')}: so few patients would decide it by what "
            "is peculiar to them. Leave the probabilities as they are, or train with more validation images."
        )
    for index, name in enumerate(classes):
        if not np.any(targets == index):
            raise UserError(
                f"A temperature needs validation images of both answers, and none is {name}: how sure a wrong {name} "
                "is could not be seen. Train with another split."
            )


def fit(logits, targets, patients) -> float:
    """Return the likeliest temperature: logits float [N, views, 2], targets and patients int [N]."""
    weights, count = patient_weights(patients), len(set(patients.tolist()))

    # Where all answers are right the log loss alone has no minimum: it falls until every probability is 1. So the log
    # of the temperature has a normal prior, against which each patient is one observation: many outweigh it.
    def loss(log_temperature):
        of_images = -_log_probabilities(logits, np.exp(log_temperature))[np.arange(len(targets)), targets]
        return weights @ of_images + ((log_temperature - np.log(PRIOR_MIDDLE)) / PRIOR_DEVIATION) ** 2 / 2 / count

    found = minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def probabilities(logits, temperature: float = 1.0) -> np.ndarray:
    """Return float [N, 2]: softmax of each view's logits / temperature, averaged over the views."""
    return softmax(np.asarray(logits, float) / temperature, axis=2).mean(axis=1)


def _log_probabilities(logits, temperature) -> np.ndarray:
    # In logarithms throughout: a probability that rounds to 0 or 1 would have no slope.
    scaled = logits / temperature
    of_views = scaled - logsumexp(scaled, axis=2, keepdims=True)
    return logsumexp(of_views, axis=1) - np.log(logits.shape[1])


def patient_weights(patients) -> np.ndarray:
    """Return the weight of each image, 1 / (its patient's images x the patients); they sum to 1.

    Each patient counts once: the answers for the next patient are what matters, and of BACH's validation images one
    patient has 36 of 132, which would decide for the 23 others.
    """
    _, index, counts = np.unique(patients, return_inverse=True, return_counts=True)
    return 1 / (counts[index] * len(counts))


def _folds(patients):
    """Return pairs of rows, those that fit and those that are held out, whole patients each."""
    from sklearn.model_selection import GroupKFold

    return GroupKFold(min(FOLDS, len(set(patients)))).split(patients, groups=patients)
