"""The commands of docs/own-images.md: each is one that there is, and all of them together do what the page says."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from cli import cli

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "own-images.md"


def commands():
    """Return the words of each command on the page, with the page's variables in their place."""
    lines = "".join(re.findall(r"^```\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)).splitlines()
    variables, found = {}, []
    for line in lines:
        if said := re.fullmatch(r'([A-Z]+)="(.*)"', line):
            variables[said[1]] = said[2]
            continue
        whole = re.sub(r"\$([A-Z]+)", lambda name: variables[name[1]], line)
        found.append(shlex.split(whole, comments=True))
    return [words for words in found if words]


def test_each_command_of_the_page_is_one_that_there_is():
    ours = [words[2:] for words in commands() if words[1] == "cli.py"]
    assert len(ours) > 10
    for given in ours:
        command, words = cli, iter(given)
        while isinstance(command, click.Group):
            command = command.commands[next(words)]
        context = click.Context(command)
        values, _, _ = command.make_parser(context).parse_args(list(words))
        for parameter in command.params:
            assert not parameter.required or parameter.name in values
            if parameter.name in values:
                parameter.type_cast_value(context, values[parameter.name])


@pytest.mark.long
def test_the_example_of_the_page_runs(tmp_path):
    (tmp_path / "data").mkdir()
    environment = {**os.environ, "TFDS_DATA_DIR": str(tmp_path / "data"), "PYTHONPATH": str(ROOT)}
    for _, *words in commands():
        if words[1] in {"serve", "app"}:  # these answer until they are stopped
            continue
        called = [str(ROOT / "cli.py") if word == "cli.py" else word for word in words]
        subprocess.run([sys.executable, *called], cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "saved_models" / "mine" / "1" / "saved_model.pb").is_file()
    assert (tmp_path / "runs" / "own-other" / "report.html").is_file()
