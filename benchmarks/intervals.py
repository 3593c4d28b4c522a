"""Do 95 % intervals hold the truth 95 times of 100, with the patients of BACH's validation images? Printed as Markdown.

    python -m benchmarks.intervals --draws 5000

Answers are drawn again and again with a known accuracy and a known intra-patient correlation, for the 24 patients of
the published split. Each cell is how often a method's interval holds the truth, and the interval's mean width.
"""

import click
import numpy as np
from scipy.special import betaincinv, ndtr, ndtri
from scipy.stats import beta, multivariate_normal, t

from bach_keras.evidence.correlation import Design

# The normal quantile of a two-sided 95 % interval.
Z = ndtri(0.975)
CLASSES = ("normal", "benign", "insitu", "invasive")
# Images of each class of each patient, by the organisers' sheet.
PATIENTS = (
    (0, 21, 12, 3), (4, 14, 0, 0), (0, 0, 14, 0), (5, 6, 0, 0), (6, 3, 0, 0), (5, 1, 0, 0), (1, 3, 0, 0), (2, 0, 1, 1),
    (0, 0, 0, 4), *[(0, 0, 1, 1)] * 2, *[(0, 0, 0, 2)] * 9, (0, 0, 1, 0), *[(0, 0, 0, 1)] * 3,
)  # fmt: skip
ACCURACIES = (0.5, 0.72, 0.85, 0.95)
CORRELATIONS = (0.0, 0.2, 0.5)
# The accuracy of each class, of which the balanced accuracy is the mean.
BY_CLASS = {0.5: (0.5, 0.4, 0.5, 0.6), 0.72: (0.6, 0.7, 0.73, 0.85), 0.85: (0.8, 0.8, 0.88, 0.92)}
BY_CLASS[0.95] = (0.93, 0.94, 0.96, 0.97)
PAIRS = ((0.72, 0.72), (0.72, 0.6), (0.85, 0.8), (0.95, 0.9))
# Images of each patient in other sets.
OTHERS = ((36,), (20,) * 2, (15,) * 4, (20, 12, 8, 6, 5, 4, 3, 2, 2, 1), (8,) * 40)
# Of two systems that are compared: the correlation of what makes one image, or one patient, hard for both.
SHARED = 0.5


class Set:
    """The images of a set of patients, one after the other."""

    def __init__(self, patients):
        table = np.array(patients)
        self.patient = np.repeat(np.arange(len(table)), table.sum(axis=1))
        self.label = np.concatenate([np.repeat(np.arange(table.shape[1]), row) for row in table])
        self.groups = [f"p{number}" for number in self.patient]
        self.patients, self.n = len(table), len(self.label)

    def right(self, rng, draws, accuracies, rho):
        """Draw right answers, bool [draws, n]: a beta-binomial for each class, a patient as easy in all of them."""
        share = np.broadcast_to(np.asarray(accuracies)[self.label], (draws, self.n))
        if rho:
            ease = rng.random((draws, self.patients))
            scale = 1 / rho - 1
            each = [betaincinv(one * scale, (1 - one) * scale, ease) for one in accuracies]
            share = np.stack(each, axis=-1)[:, self.patient, self.label]
        return rng.random((draws, self.n)) < share

    def pair(self, rng, draws, accuracies, rho):
        """Draw the right answers of two systems, each bool [draws, n], of which an image is hard for both."""
        both = [rng.standard_normal((2, draws, size)) for size in (self.patients, self.n)]
        common = [rng.standard_normal((draws, size)) for size in (self.patients, self.n)]
        found = []
        for system, accuracy in enumerate(accuracies):
            latent = latent_correlation(accuracy, rho)
            parts = [
                np.sqrt(SHARED) * shared + np.sqrt(1 - SHARED) * own[system]
                for shared, own in zip(common, both, strict=True)
            ]
            ease = np.sqrt(latent) * parts[0][:, self.patient] + np.sqrt(1 - latent) * parts[1]
            found.append(ndtr(ease) < accuracy)
        return found


def latent_correlation(accuracy, rho):
    """Return the correlation of two normal variables whose being above a threshold correlates by rho."""
    if not rho:
        return 0.0
    low, high, at = 0.0, 0.999, ndtri(accuracy)
    for _ in range(40):
        middle = (low + high) / 2
        joint = multivariate_normal.cdf([at, at], cov=[[1, middle], [middle, 1]])
        less = (joint - accuracy**2) / (accuracy * (1 - accuracy)) < rho
        low, high = (middle, high) if less else (low, middle)
    return low


def sums(images, values):
    """Return the sums over each patient, [draws, patients]."""
    starts = np.unique(images.patient, return_index=True)[1]
    return np.add.reduceat(np.asarray(values, float), starts, axis=1)


def wilson(share, n):
    middle, half = share + Z * Z / (2 * n), Z * np.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    return np.array([middle - half, middle + half]) / (1 + Z * Z / n)


def anova(images, right):
    """Return the intra-class correlation by the analysis of variance, at least 0, and the n that follows from it."""
    sizes, totals = np.bincount(images.patient), sums(images, right)
    n, share = images.n, right.mean(axis=1, keepdims=True)
    between = (sizes * (totals / sizes - share) ** 2).sum(axis=1) / (len(sizes) - 1)
    within = (totals - totals**2 / sizes).sum(axis=1) / (n - len(sizes))
    usual = (n - (sizes**2).sum() / n) / (len(sizes) - 1)
    rho = np.clip((between - within) / np.maximum(between + (usual - 1) * within, 1e-12), 0, 1)
    return n / (1 + rho * ((sizes**2).sum() / n - 1))


def left_out(images, values, weights):
    """Return the shares without one patient each, [draws, patients], a class that is then empty left out."""
    kept = np.ones((images.patients, images.n), bool)
    kept[images.patient, np.arange(images.n)] = False
    if weights is None:
        return values @ (kept / kept.sum(axis=1, keepdims=True)).T
    counts = np.stack([(kept & (images.label == label)).sum(axis=1) for label in range(len(CLASSES))], axis=1)
    each = kept / np.maximum(counts, 1)[:, images.label] / (counts > 0).sum(axis=1, keepdims=True)
    return values @ each.T


def jackknife(images, values, weights):
    values = np.asarray(values, float)
    others = left_out(images, values, weights)
    spread = np.sqrt((images.patients - 1) * others.var(axis=1))
    found = values.mean(axis=1) if weights is None else values @ weights
    half = t.ppf(0.975, images.patients - 1) * spread
    return np.array([found - half, found + half])


def bootstrap(images, values, weights, rng, samples=400):
    """Return percentile intervals of patients drawn again, at most 1000 draws of them."""
    values = np.asarray(values[:1000], float)
    drawn = rng.multinomial(images.patients, np.full(images.patients, 1 / images.patients), samples)[:, images.patient]
    if weights is None:
        shares = values @ (drawn / drawn.sum(axis=1, keepdims=True)).T
    else:
        counts = np.stack([drawn[:, images.label == label].sum(axis=1) for label in range(len(CLASSES))], axis=1)
        each = drawn / np.maximum(counts, 1)[:, images.label] / (counts > 0).sum(axis=1, keepdims=True)
        shares = values @ each.T
    return np.quantile(shares, [0.025, 0.975], axis=1)


def of_shares(images, right, weights, rng):
    """Return method name -> intervals, each [2, draws], of accuracies, or with weights of balanced ones."""
    design = Design(images.groups, None if weights is None else images.label)
    share = right.mean(axis=1) if weights is None else right @ weights
    kish = images.n**2 / (np.bincount(images.patient) ** 2).sum()
    found = {"Wilson, images": wilson(share, images.n), "Wilson, Kish's n": wilson(share, kish)}
    found["Wilson, n by ANOVA"] = wilson(share, anova(images, right))
    if weights is None:
        n = anova(images, right)
        ends = beta.ppf(0.025, share * n, n - share * n + 1), beta.ppf(0.975, share * n + 1, n - share * n)
        found["Clopper-Pearson, n by ANOVA"] = np.nan_to_num([ends[0], np.where(share == 1, 1, ends[1])])
    found["patients drawn again"] = bootstrap(images, right, weights, rng)
    found["jackknife of patients, t"] = jackknife(images, right, weights)
    return found | {"**correlations weighed**": design.share_interval(right)}


def of_differences(images, pair, weights, rng):
    """Return method name -> intervals, each [2, draws], of differences."""
    first, second = pair
    change = first.astype(float) - second
    alone = Design([""] * images.n, None if weights is None else images.label)
    design = Design(images.groups, None if weights is None else images.label)
    return {
        "Tango, images": alone.difference_interval(first, second),
        "patients drawn again": bootstrap(images, change, weights, rng),
        "jackknife of patients, t": jackknife(images, change, weights),
        "**correlations weighed**": design.difference_interval(first, second),
    }


def table(title, cells):
    """Print a row for each cell and a column for each method: percent held, and the mean width."""
    methods = next(iter(cells.values()))
    click.echo(f"\n| {title} | {' | '.join(methods)} |\n|---|{'---|' * len(methods)}")
    for head, cell in cells.items():
        click.echo(f"| {head} | {' | '.join(cell.values())} |")


def judged(intervals, truth):
    """Return method name -> what the table says of its intervals."""
    found = {}
    for method, (low, high) in intervals.items():
        held = ((low <= truth + 1e-9) & (truth - 1e-9 <= high)).mean()
        found[method] = f"{100 * held:.1f} ({(high - low).mean():.2f})"
    return found


@click.command()
@click.option("--draws", type=click.IntRange(2), default=2000, show_default=True, help="Sets of answers for each cell.")
@click.option("--seed", type=int, default=0, show_default=True, help="Random seed of the answers.")
def main(draws, seed):
    """Print the coverage and the mean width of 95 % intervals by several methods."""
    images = Set(PATIENTS)
    balanced = Design(images.groups, images.label).weights
    for number, weights in enumerate((None, balanced)):

        def shares(rng, accuracy, rho, weights=weights):
            truths = (accuracy,) * len(CLASSES) if weights is None else BY_CLASS[accuracy]
            right = images.right(rng, draws, truths, rho)
            return judged(of_shares(images, right, weights, rng), accuracy)

        cells = over_cells(ACCURACIES, [seed, number], shares)
        table(("Accuracy", "Balanced accuracy")[number], cells)
    for number, weights in enumerate((None, balanced)):

        def differences(rng, pair, rho, weights=weights):
            rights = images.pair(rng, draws, pair, rho)
            return judged(of_differences(images, rights, weights, rng), pair[0] - pair[1])

        cells = over_cells(PAIRS, [seed, 2 + number], differences)
        table(("Difference of accuracies", "Difference of balanced accuracies")[number], cells)

    # Fewer and more patients than BACH's, with the method that is used.
    def elsewhere(rng, accuracy, rho):
        found = {}
        for sizes in OTHERS:
            other = Set([(size,) for size in sizes])
            right = other.right(rng, draws, (accuracy,), rho)
            found[f"{other.n} images of {other.patients}"] = Design(other.groups).share_interval(right)
        return judged(found, accuracy)

    table("Accuracy, other patients", over_cells(ACCURACIES, [seed, 4], elsewhere))


def over_cells(truths, seed, judge):
    """Return title -> what ``judge`` finds with each truth and each correlation."""
    found = {}
    for rho in CORRELATIONS:
        for truth in truths:
            words = " - ".join(f"{accuracy:g}" for accuracy in np.atleast_1d(truth))
            found[f"{words}, rho {rho:g}"] = judge(np.random.default_rng([*seed, len(found)]), truth, rho)
    return found


if __name__ == "__main__":
    main()
