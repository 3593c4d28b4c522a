"""The campaign of faults in its short form: a command that needs nothing under every fault."""

import sys

import pytest

from benchmarks.faults import place
from benchmarks.faults.__main__ import campaign, main, table
from benchmarks.faults.commands import COMMANDS
from benchmarks.faults.contents import contents
from benchmarks.faults.kinds import DAMAGES, FAULTS, _damage, _kind
from benchmarks.faults.tries import Outcome, Runner


def test_a_preparation_holds_every_promise_under_every_fault(tmp_path):
    said = []
    outcomes = campaign(Runner(tmp_path), ["prepare phantom"], is_quick=True, say=said.append)
    assert [each.complaints for each in outcomes] == [[]] * len(outcomes), said
    assert {each.fault for each in outcomes} == set(FAULTS) - {"damaged input"}
    assert sum(each.sentence.startswith("Interrupted") for each in outcomes) >= 2
    # Nothing can be made read-only for a superuser who may not mount.
    assert {each.fault for each in outcomes if not each.is_planted} <= {"read-only folder", "clock goes back"}, said


def test_what_differs_is_seen(tmp_path):
    for name in ("own.json", "b.csv", "c.bin"):
        (tmp_path / name).write_text('{"files": {"a.png": {"mtime_ns": 1, "bytes": 2}}}')
    before = contents(tmp_path, (".",))
    (tmp_path / "own.json").write_text('{"files": {"a.png": {"mtime_ns": 9, "bytes": 2}}}')
    assert contents(tmp_path, (".",)) == before
    for other in ('{"files": {"a.png": {"mtime_ns": 1, "bytes": 3}}}', '{"files": {}}', '{"mtime_ns": 1}'):
        (tmp_path / "own.json").write_text(other)
        assert contents(tmp_path, (".",)) != before
    (tmp_path / "own.json").write_text('{"files": {"a.png": {"mtime_ns": 1, "bytes": 2}}}')
    for kind in DAMAGES:
        assert _damage(tmp_path / "c.bin", kind)
        assert contents(tmp_path, (".",)) != before
        assert place.names_in(tmp_path) == {"own.json", "b.csv", "c.bin"}
        if (tmp_path / "c.bin").is_dir():
            (tmp_path / "c.bin").rmdir()
        (tmp_path / "c.bin").write_text('{"files": {"a.png": {"mtime_ns": 1, "bytes": 2}}}')


def test_what_cannot_be_damaged_is_not_taken_for_damaged(tmp_path):
    (tmp_path / "empty").touch()
    assert [_damage(tmp_path / "empty", kind) for kind in DAMAGES] == [False, False, False, True]


def test_an_export_is_compared_by_its_answers(tmp_path, exported):
    found = contents(exported, (".",))
    assert not [digest for digest in found.values() if digest.startswith("unreadable")]
    for name in ("saved_model.pb", "fingerprint.pb"):
        (tmp_path / name).touch()
        assert contents(tmp_path, (name,))[name].startswith("unreadable: ")


@pytest.mark.parametrize("files", [1, 2, 4])
def test_few_files_get_every_kind_of_damage(files):
    tried = {(number % files, _kind(number)) for number in range(24)}
    assert len(tried) == files * len(DAMAGES)


def test_the_table_counts_the_tries_that_held_each_promise():
    tries = [{}, {"equals": "not equal: model.keras"}, {"is_untouched": True}, {"is_planted": False}]
    outcomes = [Outcome("train", "SIGKILL", "", **each) for each in tries]
    assert table(outcomes)[-1] == "| train | SIGKILL | 4 | 1 | 1 | 3 | 2 | 1 | 3 |"


@pytest.mark.parametrize("words", [["--only", "nothing"], ["--fault", "sigkill"]])
def test_the_campaign_has_help_and_refuses_what_is_not_a_command_or_a_fault(monkeypatch, capsys, words):
    monkeypatch.setattr(sys, "argv", ["faults", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert all(name in said for name in (COMMANDS if "--only" in words else FAULTS))
