import random

import pytest

from bach_keras.serving.bulk.doubles import find_doubles, key_of


@pytest.mark.parametrize("at_once", [1, 7, 1000])
def test_doubles_are_those_of_a_set_in_whatever_shares_they_are_sorted(tmp_path, at_once):
    draw = random.Random(0)
    names = [str(draw.randrange(60)).encode() for _ in range(100)]
    (tmp_path / "keys").write_bytes(b"".join(map(key_of, names)))
    wanted = [place for place, name in enumerate(names) if name in names[:place]]
    assert find_doubles(tmp_path / "keys", len(names), at_once).tolist() == wanted


def test_a_list_without_doubles_has_none(tmp_path):
    (tmp_path / "keys").write_bytes(b"".join(key_of(str(number).encode()) for number in range(50)))
    assert find_doubles(tmp_path / "keys", 50, 10).tolist() == []
