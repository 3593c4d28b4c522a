"""The export in a C program over TensorFlow's C API, which loads it as TF Serving does: no Python, none of our code."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from bach_keras.serving.exported import Export
from bach_keras.serving.images import as_png
from datasets import phantom
from datasets.labels import CLASSES


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """run_export.c, built against the headers and libraries of TensorFlow's wheel."""
    if not shutil.which("gcc"):
        pytest.skip("there is no gcc to build run_export.c with")
    place = Path(tf.sysconfig.get_lib())
    built = tmp_path_factory.mktemp("c") / "run_export"
    libraries = [f"-l:{next(place.glob(f'libtensorflow_{part}.so.*')).name}" for part in ("cc", "framework")]
    source = Path(__file__).with_name("run_export.c")
    subprocess.run(
        ["gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-O1", "-o", built, source,
         f"-isystem{tf.sysconfig.get_include()}", f"-L{place}", *libraries, f"-Wl,-rpath,{place}"],
        check=True,
    )  # fmt: skip
    return built


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Phantoms of several sizes and kinds of file, and a broken one among them."""
    folder = tmp_path_factory.mktemp("tissue")
    paths = []
    for number, label in enumerate(CLASSES):
        path = folder / f"{label}.png"
        path.write_bytes(as_png(phantom.draw(label, 907, 0)[number:, :: number + 1]))
        paths.append(path)
    broken = folder / "broken.png"
    broken.write_bytes(paths[0].read_bytes()[:700])
    return [*paths[:2], broken, *paths[2:]]


def run(program, *words):
    return subprocess.run([program, *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("signature", "routing"), [("serving_default", "soft"), ("routed", "routed"), ("explain", "soft")]
)
def test_it_answers_as_python_does(program, exported, export, files, signature, routing):
    answer = run(program, exported, signature, *files)
    assert answer.returncode == 0, answer.stderr
    expected = export.encoded([path.read_bytes() for path in files], routing)
    lines = [line.split() for line in answer.stdout.splitlines()]
    assert [line[0] for line in lines] == ["1", "1", "0", "1", "1"]
    assert [line[1].strip("'").encode() for line in lines] == expected["label"].numpy().tolist()
    numbers = np.array([line[2:] for line in lines], np.float32)
    np.testing.assert_allclose(numbers, expected["probabilities"], atol=1e-5)
    assert not numbers[2].any()


@pytest.mark.parametrize(("signature", "routing"), [("serving_default", "soft"), ("routed", "routed")])
def test_it_reads_where_a_calibrated_tree_is_unsure(program, calibrated, files, signature, routing):
    answer = run(program, calibrated, signature, *files)
    assert answer.returncode == 0, answer.stderr
    expected = Export(calibrated).encoded([path.read_bytes() for path in files], routing)
    lines = [line.split() for line in answer.stdout.splitlines()]
    assert [line[6] for line in lines] == [str(int(unsure)) for unsure in expected["unsure"].numpy()]
    assert [line[7:] for line in lines] == [[str(int(inside)) for inside in row] for row in expected["set"].numpy()]
    assert lines[2][6:] == ["0"] * 5  # nothing is said of a broken image


@pytest.mark.parametrize(("signature", "routing"), [("serving_default", "soft"), ("routed", "routed")])
def test_it_reads_how_far_an_image_is_from_the_training_images(program, knowing, files, signature, routing):
    answer = run(program, knowing, signature, *files)
    assert answer.returncode == 0, answer.stderr
    expected = Export(knowing).encoded([path.read_bytes() for path in files], routing)["distance"].numpy()
    distances = [float(line.split()[-1]) for line in answer.stdout.splitlines()]
    np.testing.assert_allclose(distances, expected, rtol=1e-4, atol=1e-4)
    assert distances[2] == 0  # a broken image


def test_it_says_what_is_not_there(program, exported, files, tmp_path):
    assert "train: is not in the signature" in run(program, exported, "train", files[0]).stderr
    assert run(program, tmp_path, "routed", files[0]).returncode == 2
