"""Thresholds for small trees, as `calibrate` would choose them."""

from dataclasses import replace

from bach_keras.calibration import Calibration, as_listed


def softened(members, temperature: float = 20.0):
    """Return members that are less sure: the networks of tests have logits of up to fifty."""
    return [replace(member, temperature=temperature) for member in members]


def calibration(members, threshold: float = 0.5, least: float = 0.2, **fields) -> Calibration:
    """Return a calibration of these members: unsure below ``threshold``, sets of classes from ``least``."""
    given = {
        "levels": {"0.8": 2 * least, "0.9": least}, "threshold": threshold, "share": 0.2, "n": 40, "groups": 20,
        "config": "phantom", "protocol": "patient", "split": "validation", "chosen_on": ("chose.png",),
    }  # fmt: skip
    return Calibration(**{**given, **fields}, members=tuple(map(as_listed, members)))
