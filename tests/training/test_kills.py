"""Runs that get SIGKILL at a random moment and are resumed must end as one that was left alone."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest

import benchmarks
from benchmarks.kills import campaign, compare, main


def test_a_killed_run_ends_bit_for_bit_as_one_left_alone(tmp_path):
    rows = campaign(2, tmp_path, seed=3, say=lambda line: None)
    assert [(row["killed"], row["differs"]) for row in rows] == [(True, [])] * 2
    # The comparison itself sees a single changed digit.
    changed = shutil.copytree(tmp_path / "whole", tmp_path / "changed")
    history = changed / "history.csv"
    history.write_text(history.read_text().replace("1", "2", 1))
    metrics = json.loads((changed / "metrics.json").read_text())
    (changed / "metrics.json").write_text(json.dumps(metrics | {"n": 0}))
    assert compare(tmp_path / "whole", changed) == ["history.csv", "metrics.json"]


PROGRAMS = [path.stem for path in Path(benchmarks.__file__).parent.glob("*.py") if "argparse" in path.read_text()]


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_benchmark_has_help(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    monkeypatch.delitem(sys.modules, f"benchmarks.{name}", raising=False)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"benchmarks.{name}", run_name="__main__")
    assert ended.value.code == 0
    assert "usage:" in capsys.readouterr().out.lower()


@pytest.mark.parametrize("kills", ["0", "-3", "many"])
def test_a_number_of_kills_that_is_none_gets_one_sentence(kills, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--", kills])
    assert ended.value.code == 2
    assert "error: argument kills:" in capsys.readouterr().err


@pytest.mark.long
def test_twenty_kills_and_twenty_equal_ends(tmp_path):
    rows = []
    for specialist in (False, True):
        (place := tmp_path / str(specialist)).mkdir()
        rows += campaign(10, place, specialist=specialist, say=print)
    assert [row["differs"] for row in rows] == [[]] * 20
    # Some end before their moment comes. Some are cut before the first epoch, some between later ones.
    assert sum(row["killed"] for row in rows) >= 15
    assert len({row["epochs"] for row in rows}) >= 4
