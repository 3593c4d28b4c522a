"""What a calibrated tree knows of its own doubt: thresholds of its four probabilities, and for which members they are.

``evidence.conformal`` chooses them; here they are read, checked and put into the graph.
"""

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from bach_keras.fields import (
    LINE,
    NAME,
    OBJECT,
    PIXELS,
    SHA256,
    TEXTS,
    FieldError,
    Kind,
    check,
    list_of,
    number,
    one_of,
    read_object,
    whole,
)
from bach_keras.provenance import Provenance
from bach_keras.tree import NODES, TEMPERATURES, VIEWS, WEIGHTS
from bach_keras.wording import counted
from datasets.errors import UserError

# The level of ``set`` in answers; the other is reported beside it.
ANSWERED = "0.9"
LEVELS = ("0.8", ANSWERED)

_SHARE = number(0, 1)
COUNT_OF_VIEWS = Kind("1, 8 or 24", lambda value: type(value) is int and value in VIEWS)
_FILE = {
    "kind": one_of("calibration"), "levels": OBJECT, "unsure": OBJECT, "n": whole(1), "groups": whole(1),
    "views": COUNT_OF_VIEWS, "config": NAME, "protocol": NAME, "split": NAME, "chosen_on": TEXTS,
    "members": list_of(OBJECT, 3, 1000),
}  # fmt: skip
# Files of earlier versions lack it.
_FILE_MORE = {"pixels": PIXELS}
_MEMBER = {
    "node": one_of(*NODES), "source": LINE, "digest": SHA256, "weight": number(*WEIGHTS),
    "temperature": number(*TEMPERATURES),
}  # fmt: skip


@dataclass(frozen=True)
class Calibration:
    """The thresholds of one tree."""

    levels: dict[str, float]  # level of coverage -> the least probability of a class that is in the set
    threshold: float  # the least probability of the likeliest class of an answer that is not unsure
    share: float  # of the images that chose it, how many were to be unsure
    n: int  # images that chose the thresholds
    groups: int  # and their patients
    views: int = 1  # of each image
    config: str = ""  # which images these are
    protocol: str = ""
    split: str = ""
    chosen_on: tuple[str, ...] = ()
    pixels: dict[str, str] = field(default_factory=dict)  # their digests, as ``Provenance.fields`` has them
    members: tuple[dict, ...] = ()  # of each: node, source, digest, weight, temperature
    name: str = "The calibration"  # what a message calls it

    @classmethod
    def read(cls, path) -> "Calibration":
        """Read what ``calibrate --out`` wrote."""
        try:
            values = read_object(Path(path))
            check(values, _FILE, _FILE_MORE)
            for index, member in enumerate(values["members"]):
                check(member, _MEMBER, within=f"members[{index}]")
            return replace(cls.of(values), name=str(path))
        except FieldError as error:
            raise UserError(f"{path} is not what `calibrate` writes ({error}): make it again.") from error

    @classmethod
    def of(cls, values: dict, within: str = "") -> "Calibration":
        """Take the thresholds from a file or a model card, which lacks the images and the members.

        A FieldError names a wrong field; ``within`` is the name of the field that holds the thresholds, if any.
        """
        check(values, THRESHOLDS, within=within)
        prefix = f"{within}." if within else ""
        check(values["levels"], dict.fromkeys(LEVELS, _SHARE), within=f"{prefix}levels")
        least = values["levels"][LEVELS[0]]
        # A set that holds the truth more often holds more classes.
        check(values["levels"], {ANSWERED: number(0, least)}, within=f"{prefix}levels")
        check(values["unsure"], {"share": _SHARE, "threshold": _SHARE}, within=f"{prefix}unsure")
        return cls(
            levels={level: values["levels"][level] for level in LEVELS},
            threshold=values["unsure"]["threshold"],
            share=values["unsure"]["share"],
            chosen_on=tuple(values.get("chosen_on", ())),
            pixels=dict(values.get("pixels", {})),
            members=tuple(values.get("members", ())),
            **{name: values[name] for name in ("n", "groups", "views", "config", "protocol", "split")},
        )

    def as_json(self) -> dict:
        """Return what the file holds."""
        images = {"chosen_on": list(self.chosen_on), "pixels": self.pixels}
        return {"kind": "calibration", **self.in_card(), **images, "members": list(self.members)}

    @property
    def provenance(self) -> Provenance:
        """The images that chose the thresholds."""
        return Provenance.read({"chosen_on": self.chosen_on, "pixels": self.pixels})

    def in_card(self) -> dict:
        """Return what a model card says of it."""
        values = {name: getattr(self, name) for name in ("n", "groups", "views", "config", "protocol", "split")}
        return {"levels": self.levels, "unsure": {"share": self.share, "threshold": self.threshold}, **values}

    def check_tree(self, members, views: int) -> None:
        """Refuse to be used for other members, or another number of views, than those it was made for."""
        if views != self.views:
            raise UserError(
                f"{self.name} was made for {counted(self.views, 'view')} of each image and not for {views}: "
                f"give --views {self.views}, or make another with `calibrate --views {views}`."
            )
        own = [as_listed(member) for member in members]
        found = [
            f"{each['source']} {_difference(each, self.members)}" for each in own if not _among(each, self.members)
        ]
        if not found:  # what differs would be missing as well
            found = [f"{each['source']} is missing" for each in self.members if not _among(each, own)]
        if found or len(own) != len(self.members):
            listed = "; ".join(found) or f"it has {len(self.members)} members, and these are {len(own)}"
            raise UserError(f"{self.name} was made for other members: {listed}. Make it again with `calibrate`.")

    def doubt(self, probabilities) -> dict:
        """Return ``unsure`` bool [N] and ``set`` bool [N, 4] of soft answers, float32 [N, 4]."""
        import tensorflow as tf

        inside = probabilities >= np.float32(self.levels[ANSWERED])
        return {
            "unsure": tf.reduce_max(probabilities, axis=1) < np.float32(self.threshold),
            # The label is in the set, also where it reaches no threshold: an answer must not contradict itself.
            "set": inside | _largest(probabilities),
        }

    def routed_doubt(self, group, pairs) -> dict:
        """Return ``unsure`` and ``set`` of routed answers.

        Args:
            group: float32 [N, 2], carci's answer.
            pairs: float32 [N, 4], the answer of the specialist that carci chose; 0 for the other's classes.
        """
        # The thresholds are of the soft probabilities, carci's answer times the specialist's. Those of the chosen two
        # classes are known. The other specialist was not run, and its classes' are at most carci's other answer. So
        # they are in the set where that bound reaches the threshold; and where it reaches the largest known product,
        # since one of them might be the soft label, which is in its set whatever its probability. A routed set
        # therefore holds all of the soft one, and a routed answer is unsure wherever the soft one is: its largest
        # product is no larger than the largest of all four.
        import tensorflow as tf

        chosen, bound = tf.reduce_max(group, axis=1, keepdims=True), tf.reduce_min(group, axis=1, keepdims=True)
        products = chosen * pairs
        largest = tf.reduce_max(products, axis=1, keepdims=True)
        threshold = np.float32(self.levels[ANSWERED])
        others = tf.repeat(tf.one_hot(tf.argmax(group, axis=1), 2, False, True), 2, axis=1)
        return {
            "unsure": largest[:, 0] < np.float32(self.threshold),
            "set": (products >= threshold) & ~others
            | _largest(pairs)
            | others & (bound >= tf.minimum(threshold, largest)),
        }


THRESHOLDS = {name: _FILE[name] for name in ("levels", "unsure", "n", "groups", "views", "config", "protocol", "split")}


def as_listed(member) -> dict:
    """Return how a calibration names a ``hierarchy.Member``."""
    return {
        "node": member.node, "source": member.source or member.node, "digest": member.digest,
        "weight": member.weight, "temperature": member.temperature,
    }  # fmt: skip


def check_calibrated(members, views: int, calibration: Calibration | None) -> None:
    """Refuse temperatures that were fitted on another number of views, and a calibration of another tree."""
    for member in members:
        if member.fitted_views not in (None, views):
            raise UserError(
                f"The temperature of {member.source or member.node} was fitted on "
                f"{counted(member.fitted_views, 'view')} of each image and not on {views}: "
                f"fit it on {views} with `calibrate --views {views}`."
            )
    if calibration:
        calibration.check_tree(members, views)


def digest_of_tree(members, precision: str, views: int, calibration: Calibration | None) -> str:
    """Return a SHA-256 of everything that the tree's answers depend on."""
    listed = [{**as_listed(member), "source": ""} for member in members]
    thresholds = [calibration.levels, calibration.threshold] if calibration else None
    said = [listed, str(members[0].view), precision, views, thresholds]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _among(one: dict, others) -> bool:
    return any(all(one[name] == other[name] for name in _MEMBER if name != "source") for other in others)


def _difference(one: dict, others) -> str:
    """Return how a member differs from the members that a calibration was made for."""
    same = next((each for each in others if each["node"] == one["node"] and each["digest"] == one["digest"]), None)
    if same is None:
        return f"is not one of its members of {one['node']}"
    name = "weight" if one["weight"] != same["weight"] else "temperature"
    return f"had the {name} {same[name]:g} and now has {one[name]:g}"


def _largest(probabilities):
    import tensorflow as tf

    return tf.one_hot(tf.argmax(probabilities, axis=1), probabilities.shape[1], True, False)
