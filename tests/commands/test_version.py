"""What --version says."""

import re
import subprocess
import sys
from importlib.metadata import version

from click.testing import CliRunner

from bach_keras.commands import version as said
from cli import cli


def test_version_names_what_a_report_of_a_problem_needs(monkeypatch):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    lines = CliRunner().invoke(cli, ["--version"]).output.splitlines()
    assert lines[0].startswith(f"bach-keras {said.VERSION}")
    assert lines[1].startswith(f"Python {sys.version.split()[0]} on ")
    assert lines[2] == ", ".join(f"{words} {version(name)}" for name, words in said.PACKAGES.items())
    assert lines[3:] == ["oneDNN: off (TF_ENABLE_ONEDNN_OPTS=0)"]


def test_version_imports_none_of_what_it_names():
    code = (
        "import sys; from click.testing import CliRunner; from cli import cli; CliRunner().invoke(cli, ['--version'])\n"
        "print([name for name in ('tensorflow', 'keras', 'numpy') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_commit_is_that_of_a_checkout_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(said, "_ROOT", tmp_path)
    assert said.version_lines()[0] == f"bach-keras {said.VERSION}"
    (tmp_path / ".git").touch()  # of no use
    assert said.version_lines()[0] == f"bach-keras {said.VERSION}"
    (tmp_path / ".git").unlink()
    (tmp_path / "file").touch()
    author = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "file"], [*author, "commit", "-qm", "one"]):
        subprocess.run(["git", "-C", tmp_path, *words], check=True)
    assert re.fullmatch(rf"bach-keras {said.VERSION}, commit [0-9a-f]{{12}}", said.version_lines()[0])
    (tmp_path / "file").write_text("changed")
    assert said.version_lines()[0].endswith(" with changes")
