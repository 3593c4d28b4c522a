import os
import signal
from pathlib import Path

import pytest

from bach_keras.evidence.run_list import list_runs
from bach_keras.fields import read_object
from datasets.errors import UserError
from datasets.images.read import read_rgb
from datasets.images.scale import um_per_pixel
from datasets.open_file import open_file
from datasets.slides.open import open_slide


@pytest.fixture
def pipe(tmp_path, monkeypatch):
    """A pipe that nobody writes into, and that was a file when it was looked at."""

    def late(*_):
        raise TimeoutError("it waits")

    os.mkfifo(tmp_path / "a.tif")
    monkeypatch.setattr(Path, "is_file", lambda path: True)
    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(20)
    yield tmp_path / "a.tif"
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("content", [b"", b"abc"])
def test_a_file_is_read(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    with open_file(tmp_path / "a") as file:
        assert file.read() == content


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="only Linux has a file that cannot be read")
def test_an_error_of_reading_names_the_file(tmp_path):
    (tmp_path / "config.json").symlink_to("/proc/self/mem")
    with pytest.raises(OSError, match="Input/output error") as raised:
        read_object(tmp_path / "config.json")
    assert raised.value.filename == str(tmp_path / "config.json")
    (row,) = list_runs(tmp_path)
    assert row["error"] == f"{tmp_path / 'config.json'}: Input/output error."


def test_what_became_a_pipe_is_not_waited_for(pipe):
    with pytest.raises(OSError, match="a pipe or a device"):
        open_file(pipe)


@pytest.mark.parametrize("reader", [read_rgb, open_slide])
def test_an_image_or_a_slide_that_became_a_pipe_is_refused(pipe, reader):
    with pytest.raises(UserError, match=r"a\.tif cannot be read: it is a pipe or a device"):
        reader(pipe)


def test_the_scale_of_what_became_a_pipe_is_not_known(pipe):
    assert um_per_pixel(pipe) is None


def test_json_that_became_a_pipe_is_not_waited_for(pipe):
    with pytest.raises(OSError, match="a pipe or a device"):
        read_object(pipe)
