import hashlib
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from bach_keras.serving.bulk import decoder
from bach_keras.serving.bulk.plan import Looking
from bach_keras.serving.bulk.reading import Decoder, Measured, answered, read_files
from bach_keras.serving.judgement import Judgement
from bach_keras.serving.metadata import ColourProfile, PixelSize
from bach_keras.serving.predict import predict_files
from datasets import phantom
from datasets.apart import child
from datasets.errors import WorkError
from tests.serving.bulk import faulty_decoder

LOOKING = Looking(32, 1, None, 30.0)


@pytest.fixture
def images(tmp_path):
    """Return the names of three PNG files and three that are none."""
    for number, label in enumerate(("benign", "normal", "invasive")):
        Image.fromarray(phantom.draw(label, 900 + number, 0)).save(tmp_path / f"{number}.png", dpi=(60_000, 60_000))
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no image")
    return [str(tmp_path / name) for name in ("0.png", "empty.png", "1.png", "text.png", "gone.png", "2.png")]


@pytest.fixture
def decodes():
    with closing(Decoder()) as made:
        yield made


@pytest.fixture
def faulty(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")]))
    with closing(Decoder(module=faulty_decoder.__name__)) as made:
        yield made


def test_the_rows_are_those_of_predict(images, decodes, export):
    ranges = export.ranges
    seen = list(read_files(images, Looking(export.side, export.views, ranges, 30.0), decodes))
    rows = answered(export, seen, "soft", (PixelSize(), ColourProfile(), Measured(ranges, None)))
    sizes = PixelSize()
    wanted = predict_files(export, images, extras=[sizes, ColourProfile(), Judgement(ranges, sizes.of)])
    more = ("digest", "bytes", "modified_ns", "width", "height", "measured")
    assert [{name: value for name, value in row.items() if name not in more} for row in rows] == list(wanted)
    assert sum("error" in row for row in rows) == 3


def test_a_file_is_told_by_its_bytes(images, decodes):
    first, empty, *_, gone, _ = read_files(images, LOOKING, decodes)
    data = Path(images[0]).read_bytes()
    assert first.file["digest"] == hashlib.sha256(data).hexdigest()
    assert [first.file[name] for name in ("bytes", "width", "height")] == [len(data), 384, 288]
    assert first.file["modified_ns"] == os.stat(images[0]).st_mtime_ns
    assert empty.file["digest"] == hashlib.sha256(b"").hexdigest()
    assert gone.file == {"digest": None, "bytes": None, "modified_ns": None}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("hangs.png", "was not read within 1 s: raise --time-limit, or look at the file"),
        ("crashes.png", "ended the process that read it (signal 11)"),
        ("exits.png", "ended the process that read it (exit code 7)"),
    ],
)
def test_a_file_that_hangs_or_crashes_is_an_error_and_the_next_is_read(images, faulty, name, reason):
    faulty.ask((images[0],))
    faulty.answer(60.0)  # the process has started
    first, after, last = read_files([name, images[1], name], replace(LOOKING, time_limit=1.0), faulty)
    assert first.error == last.error == f"{name} {reason}."
    assert after.error == f"{images[1]} is empty."


@pytest.mark.parametrize("name", faulty_decoder.LIES)
def test_what_is_not_an_answer_is_an_error_of_its_file(images, faulty, name):
    first, after = read_files([f"{name}.png", images[1]], LOOKING, faulty)
    assert first.error == f"{name}.png misled the process that read it."
    assert after.error == f"{images[1]} is empty."


def test_nothing_is_left_of_an_object_whose_process_is_ended(faulty, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (seen,) = read_files(["s3://kept/leaves.png"], replace(LOOKING, time_limit=1.0), faulty)
    assert "was not read within 1 s" in seen.error
    assert os.listdir(tmp_path) == []


def test_a_process_that_closes_its_answer_and_stays_is_ended(faulty, monkeypatch):
    monkeypatch.setattr(child, "_END", 0.5)
    (seen,) = read_files(["stays.png"], LOOKING, faulty)
    assert seen.error == "stays.png ended the process that read it (signal 9)."


def test_a_fault_of_the_machine_is_none_of_the_file(faulty):
    with pytest.raises(WorkError, match="There is no memory for it"):
        list(read_files(["fails.png"], LOOKING, faulty))


def test_a_process_that_does_not_start_is_told_of_in_one_sentence():
    with pytest.raises(WorkError, match="did not start: is there memory for it"):
        Decoder(module="tests.serving.bulk.nowhere").ask(("a.png",))


DIES = """
import os, signal
from bach_keras.serving.bulk.reading import Decoder
decodes = Decoder(module="tests.serving.bulk.faulty_decoder")
decodes.ask(("hangs.png",))
print(decodes._child.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_process_that_decodes_ends_with_the_one_that_asks():
    dead = subprocess.run([sys.executable, "-c", DIES], stdout=subprocess.PIPE, text=True, check=False)
    assert dead.returncode == -signal.SIGKILL
    decodes = int(dead.stdout)
    for _ in range(100):
        if not psutil.pid_exists(decodes) or psutil.Process(decodes).status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.1)
    pytest.fail("it is still there")


def test_a_file_that_changes_while_it_is_read_is_an_error(images, monkeypatch):
    def read(path):
        pixels = real(path)
        path.write_bytes(b"other")
        return pixels

    real = decoder.read_rgb
    monkeypatch.setattr(decoder, "read_rgb", read)
    assert decoder.look(images[0]) == {"error": f"{images[0]} was changed while it was read."}


def test_a_pipe_is_not_waited_for(tmp_path, decodes):
    os.mkfifo(tmp_path / "a.png")
    (seen,) = read_files([str(tmp_path / "a.png")], LOOKING, decodes)
    assert seen.error == f"{tmp_path / 'a.png'} is a pipe, not a PNG, JPEG, BMP or TIFF image."


def test_relative_paths_begin_in_the_folder_of_the_command(images, tmp_path):
    with closing(Decoder(str(tmp_path))) as made:
        (seen,) = read_files(["0.png"], LOOKING, made)
    assert (seen.path, seen.error, seen.prepared.dtype) == ("0.png", None, np.uint8)


def test_modules_of_that_folder_are_not_imported(images, tmp_path):
    for name in ("PIL", "datasets", "json", "numpy"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')")
    with closing(Decoder(str(tmp_path))) as made:
        (seen,) = read_files(["0.png"], LOOKING, made)
    assert seen.error is None
    assert not (tmp_path / "run").exists()


def test_a_machine_without_that_folder_says_so(tmp_path):
    with pytest.raises(WorkError, match="where relative paths of the input begin, is not on machine"):
        list(read_files(["0.png"], LOOKING, Decoder(str(tmp_path / "none"))))
