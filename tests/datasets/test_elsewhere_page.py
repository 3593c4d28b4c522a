"""The scripts of docs/elsewhere.md read a prepared set in another folder, without this project."""

import os
import re
import subprocess
import sys
from pathlib import Path

from datasets.bach_bisque.prepare import prepare_dataset

PAGE = Path(__file__).parents[2] / "docs" / "elsewhere.md"
RUN_EACH = "import sys\nfor script in sys.argv[1:]: exec(script, {})"


def test_a_prepared_set_is_read_without_this_project(tmp_path, tiny_configs, tiny_bisque, bisque_root):
    prepare_dataset("bisque", bisque_root, data_dir=tmp_path / "data")
    place = tmp_path / "elsewhere"
    place.mkdir()
    names = [record.filename for record in tiny_bisque.records]
    rows = [f"{name},{'validation' if number == 0 else 'train'}\n" for number, name in enumerate(names)]
    (place / "split.csv").write_text("filename,split\n" + "".join(rows))
    scripts = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    reading, splitting, theirs = (script.replace("DATA_DIR", str(tmp_path / "data")) for script in scripts)
    compile(theirs, "theirs", "exec")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    no_datasets = "import importlib.util\nassert importlib.util.find_spec('bach_keras') is None"
    ended = subprocess.run(
        [sys.executable, "-c", RUN_EACH, no_datasets, reading, splitting],
        cwd=place, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    *found, counts = ended.stdout.splitlines()
    assert len(found) == 3
    for line in found:
        assert line.split()[0] in names
        assert line.endswith("(24, 28, 3)")
    assert counts == "5 1"
