"""Fields of files that others may have changed."""

import math

import pytest

from bach_keras.fields import (
    FLAG,
    LINE,
    NOTHING,
    TEXTS,
    FieldError,
    check,
    list_of,
    number,
    one_of,
    parse_object,
    plain,
    read_object,
    shown,
    whole,
)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (whole(1, 9), [1, 9], [0, 10, 1.0, True, "1", None, 10**400]),
        (number(0, 1), [0, 0.5, 1], [-0.1, 2, math.nan, math.inf, True, "0.5"]),
        (number(), [-1e300, 3], [math.nan, -math.inf, None, []]),
        (FLAG, [True, False], [0, 1, "true"]),
        (TEXTS, [[], ["a"]], ["a", {"a": 1}, [1], [["a"]], None]),
        (LINE, ["", "a b", "\u00e9"], ["a\nb", "\x1b[2J", "\ud800", 3]),
        (one_of("a", "b"), ["a"], ["c", ["a"], {}, None]),
        (list_of(number(0), 2, 2), [[0, 1]], [[0], [0, 1, 2], ["0", 1], {"a": 1}, "ab"]),
        (number(0) | NOTHING, [None, 1], ["", -1]),
    ],
)
def test_a_field_holds_what_it_must_and_nothing_else(kind, good, bad):
    for value in good:
        check({"field": value}, {"field": kind})
    for value in bad:
        with pytest.raises(FieldError, match=r"^field must be "):
            check({"field": value}, {"field": kind})


def test_a_field_is_named_with_the_object_around_it():
    with pytest.raises(FieldError, match=r"^recipe\.seed is missing$"):
        check({}, {"seed": whole()}, within="recipe")
    with pytest.raises(FieldError, match=r"^recipe must be an object, not a list$"):
        check([], {"seed": whole()}, within="recipe")
    check({"more": 1}, {}, {"seed": whole()})


def test_what_is_shown_of_a_value_is_short_and_moves_no_cursor():
    for value in ("\x1b[2J" * 1000, "\u202e", "\n", 10**5000, ["x"] * 10**6, {"a": {}}, b"\0", object(), math.nan):
        text = shown(value)
        assert len(text) < 500
        assert text.isprintable()
    assert shown("it's") == "'it's'"
    assert plain("a" * 9, 3) == "aaa..."


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": 1, "a": 2}', "it has 'a' twice"),
        (b'{"a": {"b": 1, "b": 2}}', "it has 'b' twice"),
        (b'{"a": ' + b"9" * 5000 + b"}", "a number that is too long"),
        (b"\xff", "not UTF-8"),
        (b"{", "it is not JSON"),
        (b"3", "it must be an object, not 3"),
    ],
)
def test_json_that_is_not_an_object_says_why(text, words):
    with pytest.raises(FieldError, match=words):
        parse_object(text)


def test_a_file_is_not_read_beyond_what_it_may_hold(tmp_path):
    (tmp_path / "a.json").write_text('{"a": 1}')
    assert read_object(tmp_path / "a.json") == {"a": 1}
    with pytest.raises(FieldError, match="larger than 4 bytes"):
        read_object(tmp_path / "a.json", most=4)
    with pytest.raises(FieldError, match="no such file"):
        read_object(tmp_path)
