"""The training images' range of each measure of an image: what lies outside is a warning.

A measure warns beyond a percentile of the training images. The percentile is the same for all measures, and such that
together they warn of ``FALSE_ALARMS`` of the training images, each compared with those of other patients, as a new
patient's will be.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import median_low

import numpy as np

from bach_keras.fields import NOTHING, OBJECT, FieldError, check, list_of, number, whole

FALSE_ALARMS = 0.05

# How far from that of training an image's scale may be: in this range of zooms the stability of labels is measured.
ZOOMS = (0.8, 1.25)

# Measure -> which ends of its range are open to a warning.
SIDES = {"blur": ("low", "high"), "tissue": ("low",), "stain": ("high",), "features": ("high",)}
# An end where nothing is wrong is the last value that there can be.
_ENDS = {"tissue": (None, 1.0), "stain": (0.0, None), "features": (0.0, None)}
NAMES = (*SIDES, "scale", "symmetry")

# Distances of stain are measured by images of other patients, in so many parts.
_FOLDS = 20
# Of an optical density between two photographs of one thing; without it, images all alike would have no inverse.
_LEAST_VARIANCE = 1e-4

_NUMBER = number(-1e9, 1e9)
_RANGE = list_of(_NUMBER, 2, 2)
_FIELDS = {
    "n": whole(1), "groups": whole(1), "percentile": number(0, 100), "false_alarms": number(0, 1), "bounds": OBJECT,
    "colours": list_of(_NUMBER, 6, 6), "precision": list_of(list_of(_NUMBER, 6, 6), 6, 6),
    "um_per_pixel": number(1e-6, 1e6) | NOTHING, "field": _RANGE | NOTHING,
}  # fmt: skip
# Older cards do not say these.
_MORE = {"percentiles": OBJECT | NOTHING}
PERCENTILES = list_of(_NUMBER, 101, 101)


@dataclass(frozen=True)
class Ranges:
    """What the training images of a model measure."""

    n: int
    groups: int  # their patients; an image of an unknown one counts as one
    percentile: float  # of the training images, beyond which a measure warns; of blur, half of the rest at either end
    false_alarms: float  # of the training images, how many would have a warning, each judged by other patients' images
    bounds: dict[str, tuple[float, float]]  # measure -> lowest and highest value without a warning
    colours: tuple[float, ...]  # the mean of ``quality.measures``' stain
    precision: tuple[tuple[float, ...], ...]  # the inverse of its covariance
    um_per_pixel: float | None = None  # the training images' scale, None where it is unknown
    field: tuple[float, float] | None = None  # lowest and highest micrometres of an image's shorter side
    percentiles: dict[str, tuple[float, ...]] | None = None  # measure -> of its values, 0 to 100; None in older cards

    @classmethod
    def of(cls, values: dict, within: str = "ranges") -> "Ranges":
        """Take the ranges from a model card; a FieldError names a wrong field."""
        check(values, _FIELDS, _MORE, within=within)
        bounds = check_bounds(values["bounds"], f"{within}.bounds")
        percentiles = values.get("percentiles")
        if percentiles is not None:
            check(percentiles, {}, dict.fromkeys(SIDES, PERCENTILES), within=f"{within}.percentiles")
            percentiles = {name: tuple(sorted(percentiles[name])) for name in SIDES if name in percentiles}
        _check_order({"field": values["field"] or (0, 0)}, within)
        return cls(**{name: values[name] for name in _FIELDS} | {"bounds": bounds, "percentiles": percentiles})

    def in_card(self) -> dict:
        """Return what a model card says of it."""
        return asdict(self)


def check_bounds(bounds: dict, within: str) -> dict[str, tuple[float, float]]:
    """Return the bounds of measures as a file names them, checked; a FieldError names a wrong one."""
    needed = {name: _RANGE for name in SIDES if name != "features"}
    check(bounds, needed, {"features": _RANGE}, within=within)
    found = {name: tuple(bounds[name]) for name in SIDES if name in bounds}
    _check_order(found, within)
    return found


def _check_order(bounds, within) -> None:
    for name, (low, high) in bounds.items():
        if low > high:
            raise FieldError(f"{within}: the range of {name} must not end before it begins")


def fit(measured: Sequence[dict], groups: Sequence[str], distances=None) -> Ranges:
    """Return the ranges of training images.

    Args:
        measured: of each, what ``quality.measures`` says, and ``um_per_pixel`` (None where unknown) and ``side``, the
            pixels of its shorter side.
        groups: the patient of each, "" where that is unknown.
        distances: float [n], of each to the nearest in the features of a model; None without a model.
    """
    patients = np.unique([group or f"\0{place}" for place, group in enumerate(groups)], return_inverse=True)[1]
    stains = np.array([each["stain"] for each in measured])
    values = {name: np.array([each[name] for each in measured]) for name in ("blur", "tissue")}
    values["stain"] = _apart(stains, patients)
    if distances is not None:
        values["features"] = np.asarray(distances, float)
    share, false_alarms = _share_beyond(values, patients)
    colours, precision = _colours(stains)
    scales = [each for each in measured if each["um_per_pixel"]]
    fields = [each["um_per_pixel"] * each["side"] for each in scales]
    return Ranges(
        n=len(measured),
        groups=int(patients.max()) + 1,
        percentile=100 * (1 - share),
        false_alarms=false_alarms,
        bounds={name: _bounds(name, each, share) for name, each in values.items()},
        colours=tuple(colours.tolist()),
        precision=tuple(map(tuple, precision.tolist())),
        um_per_pixel=middle(each["um_per_pixel"] for each in measured),
        field=(ZOOMS[0] * min(fields), ZOOMS[1] * max(fields)) if fields else None,
        percentiles={name: percentiles(each) for name, each in values.items()},
    )


def middle(scales: Iterable[float | None]) -> float | None:
    """Return the middle one of the scales that are known, the lower of two; None where none is."""
    known = list(filter(None, scales))
    return median_low(known) if known else None


def percentiles(values) -> tuple[float, ...]:
    """Return the percentiles 0 to 100 of values, each a value itself, with the digits that matter."""
    found = np.percentile(np.asarray(values, float), np.arange(101), method="inverted_cdf")
    return tuple(float(f"{value:.6g}") for value in found)


def _colours(stains) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and inverse covariance, shrunk as Ledoit & Wolf (2004) have it, since patients may be few."""
    from sklearn.covariance import ledoit_wolf

    covariance = ledoit_wolf(stains)[0] if len(stains) > 1 else np.zeros((stains.shape[1],) * 2)
    return stains.mean(axis=0), np.linalg.inv(covariance + _LEAST_VARIANCE * np.eye(len(covariance)))


def _apart(stains, patients) -> np.ndarray:
    """Return how far each image's stain is from those of other patients."""
    parts, found = patients % min(_FOLDS, patients.max() + 1), np.zeros(len(stains))
    for part in range(parts.max() + 1):
        own = parts == part
        found[own] = distance(stains[own], *_colours(stains if own.all() else stains[~own]))
    return found


def distance(stains, colours, precision) -> np.ndarray:
    """Return the Mahalanobis distance of stains [..., 6] from a mean, in standard deviations."""
    difference = np.asarray(stains) - np.asarray(colours)
    squared = np.einsum("...i,ij,...j", difference, np.asarray(precision), difference)
    return np.sqrt(np.maximum(squared, 0))


def _share_beyond(values, patients) -> tuple[float, float]:
    """Return the share of training images beyond each range, and of how many images one of the measures then warns."""
    others = patients[:, None] != patients
    count = np.maximum(others.sum(axis=1), 1)
    rarest = np.ones(len(patients))
    for name, each in values.items():
        for end in SIDES[name]:
            beyond = each >= each[:, None] if end == "high" else each <= each[:, None]
            rarest = np.minimum(rarest, (beyond & others).sum(axis=1) / count * len(SIDES[name]))
    # Images that no other patient's reach have a share of 0, and warn whatever the percentile.
    allowed = np.sort(rarest)[int(FALSE_ALARMS * len(patients))]
    share = float(max([0.0, *rarest[rarest < allowed]]))
    return share, float(np.mean(rarest <= share))


def _bounds(name, values, share) -> tuple[float, float]:
    """Return the range beyond which lies a share of the values, in equal parts at the ends that are open."""
    ordered = np.sort(values)
    left_out = int(share / len(SIDES[name]) * len(values))
    low, high = _ENDS.get(name, (None, None))
    return (
        float(ordered[left_out]) if low is None else low,
        float(ordered[-1 - left_out]) if high is None else high,
    )


def values_of(measured: dict, ranges: Ranges) -> dict[str, float]:
    """Return what of an image is compared with the ranges; ``measured`` is what ``warnings`` takes."""
    values = {name: measured[name] for name in ("blur", "tissue")}
    values["stain"] = float(distance(measured["stain"], ranges.colours, ranges.precision))
    if measured.get("features") is not None and "features" in ranges.bounds:
        values["features"] = measured["features"]
    return values


def outside(values: dict[str, float], bounds: dict) -> list[dict]:
    """Return ``name``, ``value`` and ``range`` of each value that lies outside its bounds."""
    return [
        {"name": name, "value": value, "range": list(bounds[name])}
        for name, value in values.items()
        if not bounds[name][0] <= value <= bounds[name][1]
    ]


def in_words(found: dict) -> str:
    """Return one of the ``warnings`` with its number, where that is from, and the range."""
    low, high = found["range"]
    source = f" ({found['source']})" if found.get("source") else ""
    return f"{found['name']}: {found['value']:.3g}{source}; training images have {low:.3g} to {high:.3g}"


def warnings(measured: dict, ranges: Ranges) -> list[dict]:
    """Return what of an image lies outside the training images' range: ``name``, ``value`` and ``range`` of each.

    Args:
        measured: what ``quality.measures`` says; where known also ``features`` (its distance to the nearest training
            image), ``scale`` (its ``value`` and ``source``) with ``side`` (the pixels of its shorter side), and
            ``symmetry`` (the share of its eight symmetries that keep the label).
    """
    found = outside(values_of(measured, ranges), ranges.bounds)
    if (scale := measured.get("scale")) and ranges.field:
        # The network sees the shorter side on as many pixels, whatever it has: an image of more pixels may have finer.
        bounds = [micrometres / measured["side"] for micrometres in ranges.field]
        far = outside({"scale": scale["value"]}, {"scale": bounds})
        found += [each | {"source": scale["source"]} for each in far]
    if measured.get("symmetry") is not None:
        found += outside({"symmetry": measured["symmetry"]}, {"symmetry": (1.0, 1.0)})
    return found
