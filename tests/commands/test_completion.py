"""What the shell completes."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from cli import cli

CLI = Path("cli.py").resolve()


def completed(*words):
    """Return what the last of the words is completed to."""
    shell = ShellComplete(cli, {}, "cli.py", "_CLI_PY_COMPLETE")
    return [item.value for item in shell.get_completions(list(words[:-1]), words[-1])]


@pytest.fixture
def runs(tmp_path, monkeypatch):
    for name in ("bach-carci", "tree/norbe", "unfinished"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    for name in ("bach-carci", "tree/norbe"):
        (tmp_path / "runs" / name / "config.json").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_commands_options_and_choices_are_completed():
    assert completed("tr") == ["train"]
    assert completed("data", "sp") == ["splits"]
    assert completed("train", "--cycle-") == ["--cycle-epochs", "--cycle-mult"]
    assert completed("train", "--node", "") == ["carci", "norbe", "invis"]
    assert completed("train", "--protocol", "p") == ["paper", "patient"]


def test_configurations_are_completed_also_in_a_join(tmp_path):
    assert completed("train", "--config", "bach") == ["bach", "bach_bisque"]
    assert completed("train", "--config", "bach+b") == ["bach+bach", "bach+bisque", "bach+bach_bisque"]


def test_folders_of_runs_are_completed_from_where_train_puts_them(runs):
    assert completed("evaluate", "--carci", "") == ["runs/bach-carci", "runs/tree/norbe"]
    assert completed("evaluate", "--carci", "runs/t") == ["runs/tree/norbe"]
    assert completed("export", "--norbe", f"{runs}/runs/tree/") == [f"{runs}/runs/tree/norbe"]
    assert completed("train", "--init", "") == [
        "best", "histology", "imagenet", "none", "runs/bach-carci", "runs/tree/norbe",
    ]  # fmt: skip


@pytest.mark.parametrize("words", [["evaluate", "--carci"], ["train", "--init"], ["train", "--options"]], ids=" ".join)
def test_elsewhere_the_shell_completes_files(runs, words):
    shell = ShellComplete(cli, {}, "cli.py", "_CLI_PY_COMPLETE")
    assert [item.type for item in shell.get_completions(words, "[x")] == ["file"]


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
def test_bash_completes_by_the_line_of_the_docs(runs):
    line = next(
        text for text in (CLI.parent / "docs/command-line.md").read_text().splitlines() if "bash_source" in text
    )
    script = f"""
    cd {CLI.parent}; PATH={Path(sys.executable).parent}:$PATH; {line}
    COMP_WORDS=(./cli.py train --node ''); COMP_CWORD=3
    "$(complete -p cli.py | grep -o '_[a-z]*_completion')" ./cli.py
    echo "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "--norc", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "carci norbe invis\n"
