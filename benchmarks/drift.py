"""How often `monitor` alarms where nothing differs, and how often it finds what does: a simulation.

``python -m benchmarks.drift [--times 500]`` draws four measures of training images and of new ones, those of a patient
alike by a correlation, and prints in Markdown the share of archives that are called different in any of them.
"""

import argparse

import numpy as np

from bach_keras.evidence import drift
from bach_keras.evidence.drift import Known, Tally
from bach_keras.evidence.ranges import percentiles

MEASURES = 4
BEYOND = 0.01  # of training images, how many have a warning of a measure
EDGES = np.linspace(-8, 8, 4001)
TRAINING = (140, 5)  # patients, images of each
# Name -> patients, images of each.
ARCHIVES = {"60 x 1": (60, 1), "12 x 5": (12, 5), "4 x 15": (4, 15), "400 x 5": (400, 5), "20 x 100": (20, 100)}
CORRELATIONS = (0.0, 0.3, 0.7)
SHIFTS = (0.25, 0.5, 1.0)  # standard deviations of an image, of the first measure


def draw(rng, patients: int, images: int, correlation: float) -> np.ndarray:
    """Return values of images, float [MEASURES, patients * images]."""
    of_patient = rng.normal(size=(MEASURES, patients, 1)) * np.sqrt(correlation)
    of_image = rng.normal(size=(MEASURES, patients, images)) * np.sqrt(1 - correlation)
    return (of_patient + of_image).reshape(MEASURES, -1)


def alarms(training: np.ndarray, new: np.ndarray, effective: float) -> bool:
    """Say whether new images are called different, as ``monitor`` tests their measures and warnings."""
    p_values, patients = [], float(TRAINING[0])
    for known, values in zip(training, new, strict=True):
        tally = Tally(EDGES)
        tally.add(values)
        p_values.append(tally.p_value(effective, Known(percentiles(known), patients)))
        warned = float((values > np.quantile(known, 1 - BEYOND)).mean())
        p_values.append(drift.share_p_value(warned, effective, BEYOND, patients))
    return min(drift.holm(p_values)) < drift.LEVEL


def rates(times: int, shape: tuple[int, int], correlation: float, shift: float = 0.0) -> tuple[float, float]:
    """Return how many archives are called different: images counted by themselves, and by patient."""
    rng, found = np.random.default_rng(0), np.zeros(2)
    for _ in range(times):
        training, new = draw(rng, *TRAINING, correlation), draw(rng, *shape, correlation)
        new[0] += shift
        found += [alarms(training, new, float(new.shape[1])), alarms(training, new, float(shape[0]))]
    return tuple((found / times).tolist())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=500)
    times = parser.parse_args().times
    print(f"Archives called different, of {times}; training on {TRAINING[0]} patients x {TRAINING[1]} images.\n")
    print(
        "| patients x images | correlation | shift | each image by itself | --group-by folder |\n|---|---|---|---|---|"
    )
    cases = [(name, correlation, 0.0) for name in ARCHIVES for correlation in CORRELATIONS]
    cases += [(name, 0.3, shift) for name in ARCHIVES for shift in SHIFTS]
    for name, correlation, shift in cases:
        alone, grouped = rates(times, ARCHIVES[name], correlation, shift)
        print(f"| {name} | {correlation:g} | {shift:g} | {alone:.3f} | {grouped:.3f} |", flush=True)


if __name__ == "__main__":
    main()
