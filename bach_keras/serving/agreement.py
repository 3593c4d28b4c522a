"""How much two forms of one tree may differ, and how much they do."""

from dataclasses import dataclass

import numpy as np

from bach_keras.wording import counted

# The largest difference of a probability that each form may show, by how its weights are kept. Float32 differs by
# rounding in another order. Float16 rounds each weight to 11 bits. The 8-bit forms are judged by their labels instead.
TOLERANCES = {"none": 1e-4, "float16": 1e-2, "dynamic": None, "int8": None}
LEAST_AGREEMENT = 0.98

# The 8-bit forms are also judged by their median difference, as labels alone would accept a file whose probabilities
# mean nothing. The tests' small networks, which are harder to round than large ones, show 0.01 (dynamic) and 0.02
# (int8); this limit leaves room for them, and is still a small change of confidence.
MOST_MEDIAN = 0.05


@dataclass(frozen=True)
class Agreement:
    """What comparing two forms found."""

    difference: float  # the largest of any probability; NaN if a form answered NaN
    same: int  # images with the same likeliest class
    count: int  # images
    median: float  # over the images, of each one's largest difference of a probability

    def holds(self, quantize: str) -> bool:
        """Return whether a form with weights kept in this way agrees well enough; one other label is always allowed."""
        tolerance = TOLERANCES[quantize]
        if tolerance is not None:
            return self.difference <= tolerance
        most = max(1, int((1 - LEAST_AGREEMENT) * self.count))
        return np.isfinite(self.difference) and self.count - self.same <= most and self.median <= MOST_MEDIAN

    def __str__(self):
        return (
            f"largest difference {self.difference:.1e}, median {self.median:.1e}, "
            f"the same label on {self.same} of {counted(self.count, 'image')}"
        )


def compare(found, expected) -> Agreement:
    """Compare two forms' probabilities, [N, 4] each, N > 0."""
    found, expected = np.asarray(found), np.asarray(expected)
    same = found.argmax(axis=1) == expected.argmax(axis=1)
    largest = np.abs(found - expected).max(axis=1)
    return Agreement(float(largest.max()), int(same.sum()), len(found), float(np.median(largest)))


def allowed(quantize: str) -> str:
    """Return in words what ``Agreement.holds`` requires of a form."""
    tolerance = TOLERANCES[quantize]
    if tolerance is not None:
        return f"a difference of {tolerance:.0e}"
    return f"at least {LEAST_AGREEMENT:.0%} of the labels and a median of {MOST_MEDIAN}"
