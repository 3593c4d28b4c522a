import dataclasses

import pytest

from bach_keras.recipe import PAPER, PHANTOM, Recipe, default_recipe


def test_the_papers_epochs():
    assert PAPER.cycle_lengths == (3, 6, 12, 24)
    assert PAPER.epochs == 48


def test_the_papers_numbers():
    assert (PAPER.image_size, PAPER.batch_size, PAPER.lr) == (288, 10, None)
    assert PAPER.middle_multiplier == pytest.approx(1 / 3)


def test_only_the_phantom_configuration_has_the_short_recipe():
    assert default_recipe("phantom") is PHANTOM
    assert default_recipe("anything") is PAPER
    assert PHANTOM.epochs < PAPER.epochs


@pytest.mark.parametrize(
    ("name", "value", "option"),
    [
        ("image_size", 31, "--image-size"),
        ("batch_size", 1, "--batch-size"),
        ("head_epochs", -1, "--head-epochs"),
        ("cycles", -1, "--cycles"),
        ("cycle_epochs", 0, "--cycle-epochs"),
        ("cycle_mult", 0, "--cycle-mult"),
        ("lr_steps", 19, "--lr-steps"),
        ("lr_probe", -1, "--lr-probe"),
        ("stain_jitter", 1.0, "--stain-jitter"),
        ("brightness", -0.1, "--brightness"),
        ("lr", 0.0, "--lr"),
        ("lr", float("nan"), "--lr"),
    ],
)
def test_bad_values_are_refused_by_the_option_users_type(name, value, option):
    with pytest.raises(ValueError, match=f"^{option} must be"):
        Recipe(**{name: value})


@pytest.mark.parametrize("many", [{"cycles": 10**12}, {"cycles": 60, "cycle_mult": 10**9}])
def test_cycles_that_no_budget_holds_are_refused_before_they_are_counted(many):
    with pytest.raises(ValueError, match="beyond the budget of 60") as refused:
        Recipe(**many)
    assert len(str(refused.value)) < 200


def test_the_least_values_are_taken():
    least = Recipe(image_size=32, batch_size=2, head_epochs=0, cycles=1, cycle_epochs=1, cycle_mult=1, lr_steps=20)
    assert least.epochs == 1


def test_one_phase_is_enough_and_none_is_refused():
    assert Recipe(cycles=0).epochs == 3
    assert Recipe(head_epochs=0).epochs == 45
    with pytest.raises(ValueError, match="nothing to train"):
        Recipe(head_epochs=0, cycles=0)


@pytest.mark.parametrize(
    ("settings", "phase", "steps"),
    [
        ({}, 1000, 100),
        ({}, 36, 36),
        ({}, 4, 20),
        ({"lr": 0.01}, 1000, 100),
        ({"lr": 0.01}, 160, 40),
        ({"lr": 0.01}, 36, 20),
        ({"lr_steps": 300}, 36, 300),
        ({"lr": 0.01, "lr_steps": 20}, 1000, 20),
        ({"lr": 0.01, "range_test": False}, 1000, 0),
        ({"lr": 0.01, "range_test": False, "lr_steps": 50}, 1000, 0),
    ],
)
def test_a_sweep_fits_its_phase_unless_its_length_is_given(settings, phase, steps):
    assert Recipe(**settings).sweep_steps(phase) == steps


def test_without_a_range_test_the_rate_is_given():
    with pytest.raises(ValueError, match=r"--no-range-test .* give the rate with --lr"):
        Recipe(range_test=False)


def test_recipe_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PAPER.seed = 1
