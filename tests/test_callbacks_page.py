"""The scripts of docs/callbacks.md run elsewhere, with nothing of this project but the folder callbacks/."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
RUN_EACH = """
import pathlib, sys
for path in sys.argv[1:]:
    exec(compile(pathlib.Path(path).read_text(), path, "exec"), {"__name__": path})
"""


def test_the_scripts_of_the_page_run_in_another_folder(tmp_path):
    shutil.copytree(ROOT / "callbacks", tmp_path / "callbacks", ignore=shutil.ignore_patterns("__pycache__"))
    scripts = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / "callbacks.md").read_text(), re.M | re.S)
    names = [f"{number}.py" for number in range(len(scripts))]
    for name, script in zip(names, scripts, strict=True):
        (tmp_path / name).write_text(script)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ended = subprocess.run(
        [sys.executable, "-c", RUN_EACH, *names],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    rate, accuracy, changed, rates = ended.stdout.splitlines()
    assert "ended by: diverged" in rate
    assert float(accuracy.split()[1]) > 0.9
    assert changed == "7 of 12 weights changed"
    # Epochs 4 to 6 of the second cycle, epochs 3 to 6: the rate of the last of 8 steps.
    assert rates == "[0.0549, 0.0183, 0.0002]"
    assert (tmp_path / "lr_range_test.png").stat().st_size > 5000
