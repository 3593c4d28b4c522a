"""The phases of a training, and how what is said counts."""

from dataclasses import replace

import pytest

from bach_keras.recipe import PAPER
from bach_keras.training.lr_find import choose_phase
from bach_keras.training.phases import phases
from bach_keras.training.start import Start
from bach_keras.wording import counted

RANDOM, TRAINED = Start("none"), Start("weights.h5", weights="weights.h5")


@pytest.mark.parametrize(
    ("start", "changes", "names"),
    [
        (RANDOM, {}, ["all", "all-restarts"]),
        (RANDOM, {"head_epochs": 0}, ["all"]),
        (RANDOM, {"cycles": 0}, ["all"]),
        (TRAINED, {}, ["head", "middle+head"]),
        (TRAINED, {"head_epochs": 0}, ["middle+head"]),
    ],
)
def test_no_two_phases_have_one_name_and_only_the_same_groups_go_on_at_their_rate(start, changes, names):
    planned = phases(replace(PAPER, **changes), start)
    assert [phase.name for phase in planned] == names
    assert [phase.continues for phase in planned] == [name == "all-restarts" for name in names]


def test_the_range_test_is_of_a_phase_that_begins_at_a_rate_of_its_own():
    assert choose_phase(PAPER, RANDOM, None).name == "all"
    with pytest.raises(ValueError, match=r"choose --phase all\."):
        choose_phase(PAPER, RANDOM, "head")


def test_one_is_not_many():
    assert [counted(number, "epoch") for number in (0, 1, 2)] == ["0 epochs", "1 epoch", "2 epochs"]
