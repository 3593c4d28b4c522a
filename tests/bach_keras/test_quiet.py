"""TensorFlow's start-up writes lines that nobody can use; these reach no user, and every other line does."""

import os
import subprocess
import sys

import pytest

from bach_keras.known_lines import is_known
from bach_keras.quiet import filtered, has_gpu

START = "from bach_keras.quiet import quiet_tensorflow; quiet_tensorflow()\n"
KNOWN = b"I0000 00:00:1.0 7 port.cc:153] oneDNN custom operations are on. You may see slightly different results"
NO_CUDA = (
    b"I0000 00:00:1.0 7 cudart_stub.cc:31] Could not find cuda drivers on your machine, GPU will not be used.",
    b"E0000 00:00:1.0 7 cuda_platform.cc:52] failed call to cuInit: INTERNAL: CUDA error: UNKNOWN ERROR (303)",
)
# Stands in for TensorFlow: writes a known line and an unknown one when it is imported.
STAND_IN = f"import os; os.write(2, {KNOWN + b'%sE0000 disk on fire' % os.linesep.encode()!r})\n"
CONFIG = "class config: list_physical_devices = lambda kind: []\n"


def stderr_of(code, folder=None, **environment):
    """Run code in a process of its own, with what is in a folder to import, and return what it wrote to stderr."""
    kept = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    path = os.pathsep.join(filter(None, (str(folder or ""), os.getcwd(), os.environ.get("PYTHONPATH"))))
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env=kept | {"PYTHONPATH": path, **environment}, check=False
    )
    return process.stderr.decode()


@pytest.fixture
def stand_in(tmp_path):
    (tmp_path / "tensorflow.py").write_text(STAND_IN + CONFIG)
    return tmp_path


def test_tensorflow_starts_and_computes_without_a_line():
    used = "import tensorflow as tf, keras; keras.layers.Dense(2)(tf.ones((1, 2))); import os; os.write(2, b'mine')"
    assert stderr_of(START + used, CUDA_VISIBLE_DEVICES="") == "mine"


@pytest.mark.parametrize("level", ["0", "2"])
def test_tensorflow_starts_without_keras_which_is_imported_when_it_is_needed(tmp_path, level):
    path = str(tmp_path / "model.keras")
    used = (
        "import sys, tensorflow as tf\n"
        "assert not {'keras', 'keras.src', 'matplotlib'} & set(sys.modules)\n"
        "assert tf.keras.layers.Dense(2)(tf.ones((1, 2))).shape == (1, 2)\n"
        "from tensorflow.keras.layers import Dense\n"
        "import keras; assert keras.layers.Dense is Dense\n"
        "model = keras.Sequential([Dense(2)]); model.compile('sgd', 'mse')\n"
        "model.fit(tf.ones((4, 2)), tf.ones((4, 2)))\n"
        f"model.save({path!r}); keras.models.load_model({path!r})\n"
        "import os; os.write(2, b'all is there')"
    )
    assert stderr_of(START + used, CUDA_VISIBLE_DEVICES="", TF_CPP_MIN_LOG_LEVEL=level).endswith("all is there")


def test_an_import_of_keras_that_comes_first_is_left_alone():
    used = "import keras; keras.layers.Dense(2)(keras.ops.ones((1, 2))); import os; os.write(2, b'mine')"
    assert stderr_of(START + used, CUDA_VISIBLE_DEVICES="") == "mine"


def test_an_unknown_line_of_the_start_up_passes(stand_in):
    assert stderr_of(START + "import tensorflow", stand_in) == "E0000 disk on fire"


def test_the_last_words_of_a_start_up_that_crashes_pass(stand_in):
    (stand_in / "tensorflow.py").write_text(STAND_IN + "os.abort()\n")
    assert "E0000 disk on fire" in stderr_of(START + "import tensorflow", stand_in)


def test_an_error_of_the_import_is_raised_as_it_is(stand_in):
    (stand_in / "tensorflow.py").write_text(STAND_IN + "raise ImportError('no such processor')\n")
    assert "ImportError: no such processor" in stderr_of(START + "import tensorflow", stand_in)


@pytest.mark.parametrize("level", ["0", "1"])
def test_who_asks_for_the_lines_sees_them_all(stand_in, level):
    assert "oneDNN" in stderr_of(START + "import tensorflow", stand_in, TF_CPP_MIN_LOG_LEVEL=level)


def test_two_threads_that_filter_at_once_leave_stderr_as_it_was():
    code = (
        "import os, sys, threading, time\nfrom bach_keras.quiet import filtered\n"
        "def work(seconds):\n"
        "    with filtered(): time.sleep(seconds)\n"
        "threads = [threading.Thread(target=work, args=(seconds,)) for seconds in (0.2, 0.4)]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()\n"
        f"os.write(2, {KNOWN!r})"
    )
    assert stderr_of(code) == KNOWN.decode()


def test_what_comes_after_the_start_up_is_not_filtered(stand_in):
    late = f"import tensorflow, os; os.write(2, {KNOWN!r})"
    assert stderr_of(START + late, stand_in).endswith(KNOWN.decode())


def test_missing_libraries_of_a_gpu_are_named_where_there_is_a_gpu():
    assert is_known(KNOWN, has_gpu=True)
    for line in NO_CUDA:
        assert is_known(line, has_gpu=False)
        assert not is_known(line, has_gpu=True)


def test_a_gpu_is_known_by_its_device_file_unless_it_is_hidden(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert not has_gpu(tmp_path)
    (tmp_path / "nvidia0").touch()
    assert has_gpu(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert not has_gpu(tmp_path)


def test_the_filter_leaves_stderr_as_it_was(capfd):
    with filtered():
        os.write(2, KNOWN + b"\nwithin\n")
        print("of Python", file=sys.__stderr__, flush=True)
    os.write(2, b"after\n")
    assert capfd.readouterr().err.splitlines() == ["within", "of Python", "after"]


def test_subprocesses_and_threads_write_through_the_filter(tmp_path):
    code = (
        "import os, subprocess, sys, threading\nfrom bach_keras.quiet import filtered\n"
        "with filtered():\n"
        "    thread = threading.Thread(target=os.write, args=(2, b'thread\\n')); thread.start(); thread.join()\n"
        "    subprocess.run([sys.executable, '-c', 'import os; os.write(2, b\"child\\\\n\")'])\n"
        "print('end', file=sys.stderr)\n"
    )
    assert stderr_of(code).splitlines() == ["thread", "child", "end"]
