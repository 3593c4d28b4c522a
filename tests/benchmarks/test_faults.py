"""The campaign of faults in its short form: a command that needs nothing under every fault, and what is judged."""

import signal
import sys

import pytest

from benchmarks.faults import place
from benchmarks.faults.__main__ import campaign, main, table
from benchmarks.faults.commands import COMMANDS
from benchmarks.faults.kinds import DAMAGES
from benchmarks.faults.tries import Ended, Outcome, Shop


def test_a_preparation_holds_every_promise_under_every_fault(tmp_path):
    said = []
    outcomes = campaign(Shop(tmp_path), ["prepare phantom"], is_quick=True, say=said.append)
    assert [each.complaints for each in outcomes] == [[]] * len(outcomes), said
    assert {each.fault for each in outcomes} == {
        "SIGKILL", "SIGINT", "SIGTERM", "full disk", "read-only folder", "clock goes back", "no file locks",
        "two at once", "damaged rest",
    }  # fmt: skip
    assert sum(each.sentence.startswith("Interrupted") for each in outcomes) >= 2


@pytest.mark.parametrize(
    ("code", "said", "complaint"),
    [
        (0, "a warning", ""),
        (1, "Error: The disk is full.", ""),
        (143, "Interrupted.", ""),
        (1, "Traceback (most recent call last):\nKeyError: 3", "a traceback: KeyError: 3"),
        (1, "something", "no sentence at exit code 1: something"),
        (-signal.SIGTERM, "", "it ended with -15: nothing was said"),
        (None, "", "it hangs"),
    ],
)
def test_how_a_command_may_end(code, said, complaint):
    assert Ended(code, said, "", 0.0, ()).complaint == complaint


def test_what_differs_and_what_is_left_is_seen(tmp_path):
    for name in ("a.json", "b.csv", "c.bin"):
        (tmp_path / name).write_text('{"seconds": 1, "n": 2}')
    before = place.contents(tmp_path, (".",))
    (tmp_path / "a.json").write_text('{"seconds": 9, "n": 2}')
    assert place.contents(tmp_path, (".",)) == before
    for damage in DAMAGES.values():
        damage(tmp_path / "c.bin")
        assert place.contents(tmp_path, (".",)) != before
        assert place.names_in(tmp_path) == {"a.json", "b.csv", "c.bin"}
        if (tmp_path / "c.bin").is_dir():
            (tmp_path / "c.bin").rmdir()
        (tmp_path / "c.bin").write_text('{"seconds": 1, "n": 2}')


def test_the_table_counts_the_tries_that_held_each_promise():
    outcomes = [Outcome("train", "SIGKILL", ""), Outcome("train", "SIGKILL", "", equals="not equal: model.keras")]
    assert table(outcomes)[-1] == "| train | SIGKILL | 2 | 2 | 2 | 1 | 2 |"


def test_the_campaign_has_help_and_refuses_what_is_no_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["faults", "--only", "nothing"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert all(name in said for name in COMMANDS)
