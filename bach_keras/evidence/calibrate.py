"""One temperature for a network: what its logits are divided by, so that its probabilities mean what they say.

Temperature scaling (Guo et al. 2017) changes no answer, only how sure it is. It is fitted on validation images, whose
patients the network never trained on, and judged by cross-fitting: each patient by a temperature from the others.
"""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp, softmax

from bach_keras.evidence.metrics import scores
from bach_keras.tree import TEMPERATURES
from bach_keras.wording import counted
from datasets.errors import UserError

# The least to fit on. Each fit of the cross-fitting must see several patients, and one number is all that is fitted:
# of BACH's validation images, norbe's are 71 of 7 patients and invis's 61 of 19.
LEAST_IMAGES, LEAST_GROUPS = 30, 6
FOLDS = 5

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
    patients = patients_of(groups)
    check_enough(targets, patients, classes)
    weights, fold_temperatures, answers = patient_weights(patients), [], np.empty((len(targets), 2))
    for others, held in _folds(patients):
        temperature = fit(logits[others], targets[others], patient_weights(patients[others]))
        fold_temperatures.append(temperature)
        answers[held] = probabilities(logits[held], temperature)
    before, after = (scores(targets, each, classes, list(groups)) for each in (probabilities(logits), answers))
    return {
        "temperature": fit(logits, targets, weights),
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


def fit(logits, targets, weights) -> float:
    """Return the temperature of the least log loss: logits float [N, views, 2], targets int [N], weights float [N]."""
    # Where all answers are right the log loss has no minimum: it falls until every probability is 1. So the targets are
    # not 0 and 1 but what they would be with one more image answered rightly and one wrongly (the rule of succession,
    # as Platt 1999 has it for his fit); among many images it changes little.
    n = len(targets)
    wanted = np.full((n, 2), 1 / (n + 2))
    wanted[np.arange(n), targets] = (n + 1) / (n + 2)

    def loss(log_temperature):
        return weights @ -(wanted * _log_probabilities(logits, np.exp(log_temperature))).sum(axis=1)

    # One minimum between the bounds: the log loss is convex in 1 / temperature, for one view of an image.
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


def patients_of(groups) -> np.ndarray:
    """Return a number for each image, the same for images of one patient; an unknown patient is one of its own."""
    names = [("known", name) if name else ("unknown", str(index)) for index, name in enumerate(groups)]
    order = {name: index for index, name in enumerate(dict.fromkeys(names))}
    return np.array([order[name] for name in names], int)


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
