import pytest

from datasets.catalogue import CONFIGS
from datasets.config_names import KNOWN, canonical, parts_of
from datasets.errors import UserError


def test_the_names_that_the_command_line_knows_are_those_of_the_catalogue():
    assert tuple(CONFIGS) == KNOWN


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("bach", "bach"),
        ("own-clinic_a-2", "own-clinic_a-2"),
        ("own-b+bach+own-a", "bach+own-a+own-b"),
        ("own-a+bach_bisque", "bach_bisque+own-a"),
        ("bisque+bach", "bach+bisque"),
    ],
)
def test_a_join_has_one_name_in_whatever_order_it_is_given(given, name):
    assert canonical(given) == name
    assert parts_of(given) == tuple(name.split("+"))


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ("", "There is no config ''"),
        ("bisc", "There is no config 'bisc'"),
        ("bach+bisc", r"There is no config 'bisc' in 'bach\+bisc'"),
        ("bach+", r"There is no config '' in 'bach\+'"),
        ("own-", "There is no config 'own-'"),
        ("own-Clinic", "small letters"),
        ("own-../../etc", "There is no config"),
        ("own-" + "a" * 41, "at most 40"),
        ("own-a+own-a", "joins own-a with itself"),
        ("bach+bach", "joins bach with itself"),
        ("bach_bisque+bisque", "joins bach_bisque with bisque, which it holds already"),
        ("phantom+own-a", "it is synthetic: use it by itself"),
        ("+".join(f"own-{'a' * 36}{number}" for number in range(4)), "A join of 4 sets has a name of 167 letters"),
    ],
)
def test_what_cannot_be_a_configuration_is_refused(config, sentence):
    with pytest.raises(UserError, match=sentence):
        canonical(config)
