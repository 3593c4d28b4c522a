"""How much two forms of one tree may differ, and how much they do."""

from dataclasses import dataclass

import numpy as np

from bach_keras.wording import counted


@dataclass(frozen=True)
class Limit:
    """How much a form may differ: in any probability, or else in labels and in the median over images."""

    difference: float | None = None  # the largest of any probability
    least: float = 0.0  # share of images with the same label
    median: float = 0.0  # over the images, of each one's largest difference of a probability

    def __str__(self):
        if self.difference is not None:
            return f"a difference of {self.difference:.0e}"
        return f"at least {self.least:.1%} of the labels and a median of {self.median}"


# By how a form keeps its weights. Float32 differs by rounding in another order. TFLite's float16 rounds each weight to
# 11 bits and computes in float32. What is also computed in fewer bits is judged by its labels, and by its median
# difference, as labels alone would accept a file whose probabilities mean nothing. The tests' small networks, which are
# harder to round than large ones, show medians of 0.01 (dynamic) and 0.02 (int8): the limit leaves room for them, and
# is still a small change of confidence.
LIMITS = {
    "none": Limit(1e-4), "float16": Limit(1e-2), "dynamic": Limit(least=0.98, median=0.05),
    "int8": Limit(least=0.98, median=0.05),
}  # fmt: skip

# Of an export in half precision, as against its float32 form.
HALF_PRECISION = Limit(least=0.995, median=0.005)


@dataclass(frozen=True)
class Agreement:
    """What comparing two forms found."""

    difference: float  # the largest of any probability; NaN if a form answered NaN
    same: int  # images with the same likeliest class
    count: int  # images
    median: float  # over the images, of each one's largest difference of a probability

    def holds(self, limit: Limit) -> bool:
        """Return whether a form agrees well enough; one other label is always allowed."""
        if limit.difference is not None:
            return self.difference <= limit.difference
        most = max(1, int((1 - limit.least) * self.count))
        return np.isfinite(self.difference) and self.count - self.same <= most and self.median <= limit.median

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
