"""Some images compared with those that a model knows: a finding for each measure and each share of warnings.

The tests are those of ``evidence.drift``. A finding is a dict: ``name``, ``statistic`` (share, median or mix), ``n``,
``effective_n``, ``value`` with its ``ci95``, ``known`` with ``known_effective_n``, ``test``, its p-value ``p`` and,
once ``corrected``, ``p_holm`` and whether it ``differs``; what is not known is None.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bach_keras.evidence import drift
from bach_keras.evidence.drift import Known, Tally
from bach_keras.evidence.ranges import SIDES, Ranges

ANY = "any warning"
TRAINING = "the training images"
# With a smaller effective number of images hardly any difference can be shown.
FEW = 10

_UNIT = np.linspace(0, 1, 10_001)
_FROM_ZERO = np.concatenate([[0.0], np.geomspace(1e-3, 1e6, 10_000)])
# Measure -> the edges between which its values are counted.
EDGES = {"blur": _UNIT, "tissue": _UNIT, "stain": _FROM_ZERO, "features": _FROM_ZERO, "confidence": _UNIT}


def warning(name: str) -> str:
    return f"warning: {name}"


@dataclass(frozen=True)
class Sample:
    """How many images there are, and how many independent ones say as much (Kish 1965)."""

    n: int
    effective: float

    def effective_of(self, n: int) -> float:
        """Return the same of those of the images, of which there are n, that have some value."""
        return max(1.0, self.effective * n / self.n)


@dataclass(frozen=True)
class Reference:
    """Shares and distributions, each with the effective number of images behind it."""

    words: str  # what it is
    shares: dict[str, tuple[float, float]]  # warnings, and unsure
    measures: dict[str, Known]
    mix: tuple[dict[str, float], float] | None = None  # label -> images
    is_chosen_mix: bool = False  # whether somebody chose the images by their labels, as those of training are


def of_ranges(ranges: Ranges) -> Reference:
    """Return what the ranges of a model know of its training images, which count as many as they have patients."""
    patients, beyond = float(ranges.groups), 1 - ranges.percentile / 100
    shares = {ANY: (ranges.false_alarms, patients)}
    shares |= {warning(name): (beyond, patients) for name in SIDES if name in ranges.bounds}
    shares |= {warning("scale"): (0.0, patients)} if ranges.field else {}
    measures = {name: Known(each, patients) for name, each in (ranges.percentiles or {}).items()}
    return Reference(TRAINING, shares, measures, is_chosen_mix=True)


def finding(sample: Sample, name: str, statistic: str, test: str, n: int) -> dict:
    """Return a finding of n of the sample's images, of which nothing is known yet."""
    return {
        "name": name, "statistic": statistic, "n": n, "effective_n": round(sample.effective_of(n), 1), "value": None,
        "ci95": None, "known": None, "known_effective_n": None, "test": test, "p": None,
    }  # fmt: skip


def of_share(sample: Sample, known: Reference, name: str, counts: tuple[int, int], both: bool = False) -> dict:
    """Return the finding of a share, ``counts`` of images with it and of all; without ``both`` only more differ."""
    count, n = counts
    found = finding(sample, name, "share", "Fisher, two-sided" if both else "Fisher, more", n)
    share, effective = count / n, sample.effective_of(n)
    found |= {"value": share, "ci95": drift.share_interval(share, effective)}
    if name in known.shares:
        expected, behind = known.shares[name]
        found |= {"known": expected, "known_effective_n": behind}
        if sample.n >= drift.LEAST:
            found["p"] = drift.share_p_value(share, effective, expected, behind, both)
    return found


def of_measures(sample: Sample, known: Reference, tallies: Mapping[str, Tally]) -> list[dict]:
    """Return a finding for each measure that has values; it also has the ``percentiles`` of both sides."""
    found = []
    for name, tally in tallies.items():
        if not tally.n:
            continue
        row, effective = finding(sample, name, "median", "Kolmogorov-Smirnov", tally.n), sample.effective_of(tally.n)
        row |= {"value": tally.quantile(0.5), "ci95": tally.median_interval(effective)}
        row["percentiles"] = [tally.quantile(step / 100) for step in range(101)]
        if name in known.measures:
            reference = known.measures[name]
            row |= {"known": reference.percentiles[50], "known_effective_n": reference.effective}
            row["known_percentiles"] = list(reference.percentiles)
            if sample.n >= drift.LEAST:
                row["p"] = tally.p_value(effective, reference)
        found.append(row)
    return found


def corrected(found: list[dict]) -> list[dict]:
    """Add to findings their p-values corrected for their number, and whether they differ."""
    for each, adjusted in zip(found, drift.holm([each["p"] for each in found]), strict=True):
        each["p_holm"] = adjusted
        each["differs"] = None if adjusted is None else adjusted < drift.LEVEL
    return found
