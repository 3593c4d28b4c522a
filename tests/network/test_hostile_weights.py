"""Files of weights that want more than to be read: each gets one short sentence, in seconds and in little memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bach_keras.network.checkpoint import Checkpoint, write_h5
from tests.network.hostile_weight_files import PICKLES, h5, write_h5s, write_headers, write_pickles, write_zips
from tests.network.torch_files import MATRIX

MEMORY = 4 * 2**30
SECONDS = 10
CHILD = """
import json, resource, sys, time
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2)
from bach_keras.network.checkpoint import Checkpoint
for path in sys.argv[2:]:
    start = time.monotonic()
    try:
        Checkpoint(path).read()
        message = None
    except ValueError as error:
        message = str(error)
    print(json.dumps([path, message, time.monotonic() - start]), flush=True)
"""


def refusals(paths) -> dict[str, str]:
    """Read files in a child with little memory, and return each one's name -> its sentence."""
    words = [sys.executable, "-c", CHILD, str(MEMORY), *map(str, paths)]
    root = Path(__file__).parents[2]
    answer = subprocess.run(words, capture_output=True, text=True, check=False, cwd=root, timeout=SECONDS * len(paths))
    rows = [json.loads(line) for line in answer.stdout.splitlines()]
    assert len(rows) == len(paths), f"{answer.returncode} at {paths[len(rows)]}: {answer.stderr[-500:]}"
    for path, message, taken in rows:
        assert message is not None, f"{path} was read"
        assert taken < SECONDS, path
        assert len(message) < 400 + len(path), path
        assert message.isprintable(), path
    return {Path(path).name: message.removeprefix(path) for path, message, _ in rows}


@pytest.fixture(scope="module")
def refused(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pickles")
    write_pickles(folder)
    return refusals(sorted(folder.iterdir()))


@pytest.mark.parametrize("form", ["zip", "legacy"])
@pytest.mark.parametrize("label", PICKLES)
def test_a_pickle_that_costs_or_calls_is_refused(refused, label, form):
    assert refused[f"{label} {form}"]


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_what_a_pickle_asks_for_is_named(refused, form):
    for label in ("instance of a class", "object of a class", "name on the stack"):
        assert "asks for os.system" in refused[f"{label} {form}"]
    assert "asks for builtins.getattr" in refused[f"getattr {form}"]
    assert "torchvision.models.resnet.ResNet" in refused[f"whole network {form}"]
    assert "save the model's state_dict()" in refused[f"whole network {form}"]
    assert r"\x1b[2J" in refused[f"text in the message {form}"]


def test_a_safetensors_header_that_lies_is_refused(tmp_path):
    write_headers(tmp_path)
    refused = refusals(sorted(tmp_path.iterdir()))
    assert "it has 'x' twice" in refused["with a name twice"]
    assert "'x'.dtype must be one of" in refused["of an unknown type"]
    assert "nested too deeply" in refused["nested deeply"]


def test_a_zip_archive_that_lies_is_refused(tmp_path):
    write_zips(tmp_path)
    refused = refusals(sorted(tmp_path.iterdir()))
    assert "twice" in refused["twice"]
    assert "compressed" in refused["inflates"]
    assert "list of members" in refused["many members"]
    assert "more memory than the file" in refused["many names"]


def test_an_hdf5_file_gives_only_its_own_plain_data_sets(tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    secret = tmp_path / "secret.h5"
    write_h5(secret, {"weight": MATRIX})
    raw = tmp_path / "raw"
    raw.write_bytes(MATRIX.tobytes())
    write_h5s(folder, secret, raw)
    refused = refusals(sorted(folder.iterdir()))
    assert "holds 'weight' as a link to another file" in refused["an external link"]
    assert "as a soft link" in refused["a soft link"]
    assert "joined from other data sets" in refused["a virtual data set"]
    assert "stored in another file" in refused["external storage"]


def test_a_hard_link_to_a_plain_data_set_is_read(tmp_path):
    h5(tmp_path / "w.h5", lambda file: file.update({"a": MATRIX}) or file.update({"weight": file["a"]}))
    for array in Checkpoint(tmp_path / "w.h5").read().values():
        np.testing.assert_array_equal(array, MATRIX)


def test_a_pipe_is_not_read_as_a_file_of_weights(tmp_path):
    os.mkfifo(tmp_path / "w.pth")
    with pytest.raises(FileNotFoundError, match="no file of weights at"):
        Checkpoint(tmp_path / "w.pth").read()
