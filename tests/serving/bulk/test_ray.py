"""`bulk` on Ray itself, which never runs outside a network namespace of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from bach_keras.serving.predict import predict_files
from benchmarks.two_machines import alone
from datasets import phantom
from datasets.labels import CLASSES


@pytest.fixture(scope="module", autouse=True)
def _namespaces():
    if shutil.which("unshare") is None or subprocess.run(alone(["true"]), capture_output=True, check=False).returncode:
        pytest.skip("network namespaces need root")


def test_the_command_answers_as_predict_does_and_goes_on_where_it_ended(exported, export, tmp_path):
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    for number in range(10):
        Image.fromarray(phantom.draw(CLASSES[number % 4], 900 + number, 0)).save(images / f"{number}.png")
    (images / "3.png").write_bytes(b"")
    words = ["bulk", "--model", exported, "--input", images, "--out", out, "--workers", 1, "--shard-size", 8]
    command = alone([sys.executable, "cli.py", *map(str, words)])
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "10 images are answered, 1 of them errors" in done.stdout
    rows = [row for path in sorted(out.glob("part-*")) for row in pq.read_table(path).to_pylist()]
    for row, wanted in zip(rows, predict_files(export, [images]), strict=True):
        assert (row["path"], row["error"], row["label"]) == (wanted["path"], wanted.get("error"), wanted.get("label"))
        for name, share in wanted.get("probabilities", {}).items():
            # Another number of threads sums in another order: 3e-5 apart on an Intel processor of 2023.
            assert row[f"probabilities.{name}"] == pytest.approx(share, abs=1e-4)
    kept = {path.name: path.read_bytes() for path in out.glob("part-*")}
    (out / "part-00001.parquet").unlink()
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1
    assert {path.name: path.read_bytes() for path in out.glob("part-*")} == kept


@pytest.mark.long
def test_a_machine_that_is_killed_loses_no_image(exported):
    words = [sys.executable, "-m", "benchmarks.bulk", "--model", str(exported), "--cluster", "600"]
    # The machines have addresses of their own, which the tests' own network does not allow.
    sandbox = str(Path(__file__).parents[2] / "sandbox")
    paths = [path for path in os.environ["PYTHONPATH"].split(os.pathsep) if path != sandbox]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "600 rows, each image once" in done.stdout
