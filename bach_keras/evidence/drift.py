"""Whether many new images differ from those that a model knows: tests of shares, distributions and mixes.

Each compares two samples, as the known side is a sample too: a few hundred images differ by chance from the next few
hundred, and without that a million new images would differ from everything. What counts on both sides is the effective
number of images. That of the known side is the number of its patients, as a card tells no more; that of the new side is
Kish's where groups are given, and otherwise the number of images.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

# With fewer images no p-value is given.
LEAST = 30
# Two samples differ from here on, by p-values that are corrected for their number (Holm 1979).
LEVEL = 0.05
# Below this expected count a chi-squared statistic has no chi-squared distribution: its own is simulated then.
_LEAST_EXPECTED = 5
_SIMULATED = 9999

# The two-sided 95 % of a normal distribution.
_Z = 1.959964


@dataclass(frozen=True)
class Known:
    """What is known of a measure: its values' distribution, and of how many independent images."""

    percentiles: tuple[float, ...]  # 0 to 100, each a value itself
    effective: float

    def below(self, values) -> tuple[np.ndarray, np.ndarray]:
        """Return the least and the largest share of the images that can lie below values."""
        steps = np.searchsorted(self.percentiles, values, side="left") - 1
        return np.clip(steps / 100, 0, 1), np.clip((steps + 1) / 100, 0, 1)


class Tally:
    """A distribution of as many values as come, kept as counts between fixed edges."""

    def __init__(self, edges: np.ndarray):
        self.edges = edges
        self.counts = np.zeros(len(edges) - 1, np.int64)

    def add(self, values: np.ndarray) -> None:
        """Count values; those beyond an edge count at it, and NaN does not."""
        values = values[~np.isnan(values)]
        self.counts += np.histogram(np.clip(values, self.edges[0], self.edges[-1]), self.edges)[0]

    @property
    def n(self) -> int:
        return int(self.counts.sum())

    @property
    def _below(self) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(self.counts)])

    def quantile(self, share: float) -> float:
        """Return the value below which a share of the values lies, to the width of a bin."""
        return float(np.interp(share * self.n, self._below, self.edges))

    def percentiles(self) -> tuple[float, ...]:
        return tuple(self.quantile(step / 100) for step in range(101))

    def median_interval(self, effective: float) -> list[float]:
        """Return the 95 % interval of the median by the order statistics of as many independent values."""
        apart = _Z * 0.5 / math.sqrt(effective)
        return [self.quantile(max(0.0, 0.5 - apart)), self.quantile(min(1.0, 0.5 + apart))]

    def p_value(self, effective: float, known: Known) -> float:
        """Return Kolmogorov and Smirnov's p-value of two samples, of what the edges and percentiles leave certain."""
        share = (self._below / self.n)[1:-1]
        low, high = known.below(self.edges[1:-1])
        apart = max(0.0, float((share - high).max()), float((low - share).max()))
        # As scipy.stats.ks_2samp has it for samples that are too large for the exact distribution.
        size = effective * known.effective / (effective + known.effective)
        return float(stats.kstwo.sf(apart, max(1, round(size))))


def share_p_value(share: float, effective: float, known: float, known_effective: float, both: bool = False) -> float:
    """Return Fisher's exact p-value that a share is larger than the known one, or with ``both`` another."""
    table = [
        [hits := round(of * count), max(0, round(count) - hits)]
        for of, count in ((share, effective), (known, known_effective))
    ]
    return float(stats.fisher_exact(table, "two-sided" if both else "greater").pvalue)


def mix_p_value(counts, effective: float, known, known_effective: float) -> float:
    """Return the p-value that two mixes of the same classes differ, by a chi-squared test of homogeneity."""
    table = np.array([_scaled(counts, effective), _scaled(known, known_effective)])
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2 or not table.any(axis=1).all():  # one class, or too few images to count as any
        return 1.0
    if stats.contingency.expected_freq(table).min() >= _LEAST_EXPECTED:
        return float(stats.chi2_contingency(table, correction=False).pvalue)
    simulated = stats.MonteCarloMethod(n_resamples=_SIMULATED, rng=np.random.default_rng(0))
    return float(stats.chi2_contingency(table, correction=False, method=simulated).pvalue)


def _scaled(counts, effective) -> np.ndarray:
    counts = np.asarray(counts, float)
    return np.round(counts * effective / counts.sum()).astype(int)


def share_interval(share: float, effective: float) -> list[float]:
    """Return Wilson's (1927) 95 % interval of a share of as many independent images."""
    middle = share + _Z**2 / (2 * effective)
    apart = _Z * math.sqrt(share * (1 - share) / effective + (_Z / (2 * effective)) ** 2)
    scale = 1 + _Z**2 / effective
    return [max(0.0, (middle - apart) / scale), min(1.0, (middle + apart) / scale)]


def holm(p_values) -> list[float | None]:
    """Return p-values as Holm (1979) corrects them for their number; None stays None."""
    order = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted, last = [None] * len(p_values), 0.0
    for rank, (p, place) in enumerate(order):
        last = max(last, min(1.0, p * (len(order) - rank)))
        adjusted[place] = last
    return adjusted
