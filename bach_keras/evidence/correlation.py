"""How alike the images of one patient are answered, and the intervals that follow: a small Bayesian model.

Images of a patient are right or wrong together: the answers have an intra-patient correlation rho, and a share of n
images varies like one of fewer independent images. With a few patients of unequal sizes rho cannot be estimated well,
and a plug-in estimate makes intervals too narrow. So each rho is weighted by how well it explains the answers
(Dirichlet-multinomial counts of each patient), and the score test's p-value is averaged over them. Where each patient
has one image, rho does not matter, and the interval is Wilson's (1927); of a difference, Tango's (1998).
benchmarks/intervals.py compares it with other methods.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import gammaln, ndtr

LEVEL = 0.95
# The correlations that are weighed: none, and the middles of twelve equal parts of 0 to 1.
RHO = np.concatenate([[0.0], (np.arange(12) + 0.5) / 12])
# Patients that are added to each outcome, so that none has a probability of 0.
SMOOTHING = 0.25
BISECTIONS = 40


@dataclass(frozen=True)
class Prior:
    """What is assumed of rho before any answer is seen; the numbers are those that cover best in the simulation.

    Rho is 0 with probability (patients - 1) / (patients + ``weight``), and else has the density of Beta(``a``, ``b``):
    the fewer the patients, the less can answers show that images are alike, and the less is it assumed that they are
    not.
    """

    weight: int
    a: int
    b: int

    def of(self, patients: int) -> np.ndarray:
        """Return the probability of each rho, float [RHO]."""
        none = (patients - 1) / (patients + self.weight)
        density = RHO ** (self.a - 1) * (1 - RHO) ** (self.b - 1)
        return np.where(RHO == 0, none, (1 - none) * density / density.sum())


SHARES = Prior(5, 2, 2)
# How two systems differ on an image is less alike within a patient than what each answers.
DIFFERENCES = Prior(12, 2, 4)


def codes(groups) -> np.ndarray:
    """Return int [N], the number of each image's group; an image of unknown group ("") is a group of its own."""
    names = [group or ("", index) for index, group in enumerate(groups)]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names], int)


class Design:
    """The images behind a share: their patients, and their classes where each class counts the same."""

    def __init__(self, groups, truth=None):
        """Take the groups [N], and for a balanced share the true classes [N]."""
        group = codes(groups)
        label = np.zeros(len(group), int) if truth is None else np.unique(truth, return_inverse=True)[1]
        # Float [N], sum to 1: what each image counts.
        self.weights = 1 / (np.bincount(label)[label] * (label.max() + 1))
        # Images of one class and one patient are a cell; those of one class are a stratum.
        cell = np.unique(label * (group.max() + 1) + group, return_inverse=True)[1]
        self._order = np.argsort(cell, kind="stable")
        self._starts = np.unique(cell[self._order], return_index=True)[1]
        self._strata = label[self._order][self._starts]
        self._group = group

    @cached_property
    def variances(self) -> np.ndarray:
        """Float [RHO]: by how much less than one image's answer the weighted share of all varies."""
        patients = np.bincount(self._group, self.weights)
        return (1 - RHO) * (self.weights**2).sum() + RHO * (patients**2).sum()

    def posterior(self, outcomes, prior: Prior) -> np.ndarray:
        """Return the probability of each rho, float [D, RHO].

        Args:
            outcomes: bool [J, D, N], exactly one of the J outcomes for each image, of D sets of answers.
            prior: what is assumed of rho before.
        """
        cells = np.add.reduceat(np.asarray(outcomes, float)[..., self._order], self._starts, axis=-1)
        logs = sum(_log_likelihood(cells[..., self._strata == label]) for label in np.unique(self._strata))
        posterior = np.exp(logs - logs.max(axis=1, keepdims=True)) * prior.of(int(self._group.max()) + 1)
        return posterior / posterior.sum(axis=1, keepdims=True)

    def share_interval(self, right) -> np.ndarray:
        """Return the intervals of D shares, float [2, D] in 0..1, from bool [D, N]."""
        right = np.asarray(right, bool)
        spread = self._mixture(self.posterior([right, ~right], SHARES), lambda share: share * (1 - share))
        return _ends(right @ self.weights, spread, (0.0, 1.0))

    def difference_interval(self, first, second) -> np.ndarray:
        """Return the intervals of D differences of two shares of the same images, float [2, D] in -1..1."""
        first, second = np.asarray(first, bool), np.asarray(second, bool)
        gained, lost = first & ~second, second & ~first
        more, less = gained @ self.weights, lost @ self.weights

        def variance(difference):
            # Tango (1998): the likeliest share of images that only the second has right, given the difference.
            b = (2 - more + less) * difference - more - less
            only = (np.sqrt(b * b + 8 * less * difference * (1 - difference)) - b) / 4
            return 2 * only + difference * (1 - difference)

        spread = self._mixture(self.posterior([gained, lost, first == second], DIFFERENCES), variance)
        return _ends(more - less, spread, (-1.0, 1.0))

    def _mixture(self, posterior, variance):
        """Return a function of estimates and true values, both [D]: the two-sided p-value of each."""

        def p_value(estimate, true):
            one = np.maximum(variance(true), 1e-300)[:, None]
            return (posterior * 2 * ndtr(-np.abs(estimate - true)[:, None] / np.sqrt(one * self.variances))).sum(axis=1)

        return p_value


def _log_likelihood(cells) -> np.ndarray:
    """Return the log-likelihood of each rho, float [D, RHO], of counts [J, D, cells] of one stratum.

    The shares of the J outcomes are the means over the cells, and what estimating them costs at each rho is taken off,
    as restricted maximum likelihood does.
    """
    sizes = cells.sum(axis=0)
    shares = (cells / sizes).sum(axis=-1) + SMOOTHING
    shares = (shares / shares.sum(axis=0))[..., None]
    logs = []
    for rho in RHO:
        independent = (sizes / (1 + (sizes - 1) * rho)).sum(axis=-1)
        cost = (len(cells) - 1) / 2 * np.log(independent)
        if rho == 0:
            logs.append((cells * np.log(shares)).sum(axis=(0, 2)) - cost)
            continue
        strength = 1 / rho - 1
        each = gammaln(cells + shares * strength) - gammaln(shares * strength)
        logs.append((each.sum(axis=0) + gammaln(strength) - gammaln(sizes + strength)).sum(axis=-1) - cost)
    return np.stack(logs, axis=1)


def _ends(estimate, p_value, bounds) -> np.ndarray:
    """Return the least and the greatest true values that the estimates do not reject, by bisection."""
    ends = []
    for bound in bounds:
        outside, inside = np.full_like(estimate, bound), estimate.copy()
        for _ in range(BISECTIONS):
            middle = (outside + inside) / 2
            kept = p_value(estimate, middle) >= 1 - LEVEL
            inside, outside = np.where(kept, middle, inside), np.where(kept, outside, middle)
        ends.append(inside)
    return np.clip(ends, *bounds)
