"""The bar: on a terminal alone, with the time left, and nothing of it at the end."""

import re
import subprocess
import sys

import pytest

from tests.terminal import run_in_terminal

WORK = """
import time
from datasets.progress import bar
for _ in bar(range(5), what="work"):
    time.sleep(.2)
print("done")
"""
COMMAND = [sys.executable, "-c", WORK]


@pytest.mark.parametrize("columns", [100, 0])
def test_a_terminal_shows_how_far_it_is_and_the_time_left_and_nothing_stays(columns):
    *drawn, last = re.split(r"\r(?!\n)", run_in_terminal(COMMAND, columns))
    assert any(re.search(r"work: +60%.*3/5 \[00:00<00:00", each) for each in drawn)
    assert last == "done\r\n"


def test_where_stderr_is_not_a_terminal_nothing_is_drawn():
    ended = subprocess.run(COMMAND, capture_output=True, text=True, check=True)
    assert (ended.stdout, ended.stderr) == ("done\n", "")
