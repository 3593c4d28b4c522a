"""How a command ends: whose fault it was decides what the user reads, and the exit code."""

import os
import subprocess
import sys

import pytest
import tensorflow as tf
from click.testing import CliRunner

from bach_keras.evidence.evaluate import evaluate
from bach_keras.provenance import Provenance
from cli import Commands
from datasets.errors import MissingError, UserError, WorkError, working
from tests.evidence.system import System
from tests.full_disk import fill_the_disk


def ended(work, *given):
    """Run a command that does some work, and return how it ended."""
    commands = Commands()
    commands.command("work")(lambda: work(*given))
    return CliRunner().invoke(commands, ["work"])


def fail(error):
    raise error


@pytest.mark.parametrize(
    ("error", "exit_code", "line"),
    [
        (UserError("Give\nmore  images."), 2, "Error: Give more images."),
        (MissingError("There is no\x1b such file."), 2, "Error: There is no\\x1b such file."),
        (PermissionError(13, "Permission denied", "/out"), 2, "Error: /out: Permission denied."),
        (WorkError("The disk is full."), 1, "Error: The disk is full."),
    ],
)
def test_what_a_user_can_mend_is_one_sentence(error, exit_code, line):
    result = ended(fail, error)
    assert (result.exit_code, result.output) == (exit_code, f"{line}\n")


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (KeyboardInterrupt(), 130),
        (RuntimeError("InvalidArgumentError REPLACED BY KeyboardInterrupt: <EMPTY MESSAGE>"), 130),
        (RuntimeError("InvalidArgumentError REPLACED BY Terminated: <EMPTY MESSAGE>"), 143),
        (RuntimeError("UnknownError:\nTerminated: \nTraceback"), 143),
    ],
)
def test_an_interrupt_is_one_sentence_though_tensorflow_makes_another_error_of_it(error, exit_code):
    result = ended(fail, error)
    assert (result.exit_code, result.output) == (exit_code, "\nInterrupted.\n")


def test_a_damaged_record_is_one_sentence_that_says_what_to_do():
    result = ended(fail, tf.errors.DataLossError(None, None, "corrupted record\nat 12"))
    assert result.exit_code == 2
    assert "cannot be read (corrupted record at 12): run `data verify`" in result.output
    assert result.output.count("\n") == 1


@pytest.mark.parametrize(
    "error",
    [IndexError("no item"), ValueError("no number"), KeyError("name"), RuntimeError("A worker has Terminated: why?")],
)
def test_an_error_of_any_other_kind_is_left_to_python(error):
    result = ended(fail, error)
    assert result.exception is error
    assert result.exit_code == 1
    assert result.output == ""


def test_a_bug_shows_its_traceback_and_exits_with_1():
    code = "from cli import cli\ncli.command('bug')(lambda: [][0])\ncli(['bug'])"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert process.returncode == 1
    assert process.stderr.startswith("Traceback")
    assert process.stderr.endswith("IndexError: list index out of range\n")


def test_a_lost_server_is_a_mistake_before_the_work_and_none_after_it_started():
    def lost():
        raise ConnectionResetError(104, "Connection reset by peer")

    def lost_at_work():
        with working():
            lost()

    assert ended(lost).exit_code == 2
    result = ended(lost_at_work)
    assert (result.exit_code, result.output) == (1, "Error: Connection reset by peer.\n")


def test_a_disk_that_fills_up_while_an_evaluation_is_written_exits_with_1(few_phantoms, tmp_path):
    fill_the_disk(tmp_path / "predictions.csv")
    system = System(Provenance(frozenset(few_phantoms.files["train"])))
    result = ended(evaluate, system, few_phantoms, None, tmp_path)
    assert result.exit_code == 1
    assert result.output.endswith("predictions.csv cannot be written: No space left on device.\n")


def test_a_reader_who_has_had_enough_ends_a_command_quietly():
    process = subprocess.Popen(
        [sys.executable, "cli.py", "train", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ
    )
    process.stdout.close()
    _, errors = process.communicate(timeout=60)
    assert b"Traceback" not in errors
    process.stderr.close()


def test_a_python_without_the_packages_is_told_of_in_one_sentence():
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    without = [sys.executable, "-S", "cli.py", "train"]
    answer = subprocess.run(without, env=environment, capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr.startswith("Error: No module named 'click': the packages of this project are not installed")
    assert answer.stderr.count("\n") == 1


def test_an_older_python_is_told_of_in_one_sentence():
    code = "import runpy, sys; sys.version_info = (3, 10, 1, 'final', 0); runpy.run_path('cli.py')"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr.startswith(f"Error: {sys.executable} is Python 3.11")
    assert answer.stderr.endswith("and 3.11 is needed: use .venv/bin/python.\n")
