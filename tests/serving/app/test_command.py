"""The command that opens the page."""

import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request

import pytest
from click.testing import CliRunner

from bach_keras.serving.app.site import Site
from bach_keras.serving.app.uploads import remove_abandoned
from cli import cli
from datasets.processes import MACHINE


def test_the_command_prints_its_address_once_it_answers_and_leaves_nothing_behind(calibrated, tmp_path):
    words = [sys.executable, "cli.py", "app", "--model", str(calibrated), "--port", "0"]
    environment = {"TMPDIR": str(tmp_path), "PATH": "/usr/bin:/bin"}
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
        line = process.stdout.readline()
        url = re.fullmatch(r"the page is at (http://127\.0\.0\.1:\d+); Ctrl-C stops it\n", line)[1]
        assert b"mean NOTHING" in urllib.request.urlopen(url, timeout=60).read()
        assert len(list(tmp_path.glob("bach-keras-app-*"))) == 1
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    warning, *rest = errors.splitlines()
    assert "mean NOTHING" in warning
    assert [each for each in rest if each] == ["Interrupted."]
    assert list(tmp_path.glob("bach-keras-app-*")) == []


def test_what_visitors_of_a_killed_page_uploaded_is_removed_when_the_next_one_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ended = subprocess.Popen(["true"])
    ended.wait()
    for process in (ended.pid, os.getpid()):
        for machine in (MACHINE, "abcdef"):
            (tmp_path / f"bach-keras-app-{machine}-{process}-x").mkdir()
            (tmp_path / f"bach-keras-app-{machine}-{process}-x" / "image.png").touch()
    remove_abandoned()
    names = [f"bach-keras-app-{MACHINE}-{os.getpid()}-x"]
    names += [f"bach-keras-app-abcdef-{process}-x" for process in (ended.pid, os.getpid())]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_a_port_that_is_taken_is_said_in_one_sentence(answers):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"Cannot listen on 127.0.0.1:{port}.*another --port"):
            Site(answers, port=port)
    with pytest.raises(ValueError, match="not an address of this machine"):
        Site(answers, host="203.0.113.7")


@pytest.mark.parametrize("words", [[], ["--model", "a", "--server", "http://127.0.0.1:1"]])
def test_a_model_or_a_server_is_named(words):
    result = CliRunner().invoke(cli, ["app", *words])
    assert result.exit_code == 2
    assert "Name one of --model EXPORT and --server URL." in result.stderr


def test_without_gradio_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = CliRunner().invoke(cli, ["app", "--model", "a"])
    assert result.exit_code == 2
    assert "pip install -r requirements-app.txt" in result.stderr
