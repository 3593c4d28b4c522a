import pytest

from bach_keras.provenance import Provenance
from datasets.errors import UserError

FILES = {"train": ["a", "b"], "validation": ["c"], "test": ["d"]}


def provenance(trained_on="ab", chosen_on="c", protocols=("patient",)):
    return Provenance(frozenset(trained_on), frozenset(chosen_on), frozenset(protocols))


def test_several_parts_are_joined():
    joined = provenance() | provenance("x", "y", ["paper"])
    assert joined == provenance("abx", "cy", ["paper", "patient"])


def test_a_leak_is_refused_and_named():
    with pytest.raises(UserError, match=r"1 of these 2 images trained a member of this system \(b\)"):
        provenance().check_leaks(["b", "c"])
    provenance().check_leaks(["c", "d"])


def test_a_system_that_does_not_say_what_trained_it_is_refused():
    with pytest.raises(UserError, match="does not say which images trained it"):
        Provenance().check_leaks(["a"])


def test_one_split_is_not_mixed_with_itself_or_with_images_of_another_config():
    assert provenance().mixed_with("patient", FILES) == ""
    assert provenance("aXY", "Z", ["patient", ""]).mixed_with("patient", FILES) == ""


def test_members_of_other_protocols_are_named():
    mixed = provenance(protocols=["paper", "patient", "all"]).mixed_with("patient", FILES)
    assert "trained under all, paper." in mixed


@pytest.mark.parametrize(("trained_on", "chosen_on"), [("abc", ""), ("a", "b")])
def test_members_of_another_split_of_the_protocol_are_known_by_their_images(trained_on, chosen_on):
    assert "another split than this one by patient" in provenance(trained_on, chosen_on).mixed_with("patient", FILES)
