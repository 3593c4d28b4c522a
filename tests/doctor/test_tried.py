"""What was tried inside TensorFlow: wrong versions, a missing oneDNN, unseen GPUs and damaged files are named."""

import shutil

import h5py
import pytest
from safetensors.numpy import save_file

from bach_keras.doctor import gpus, inside, tried
from bach_keras.doctor.finding import FAIL, PASS, WARN, Asked
from bach_keras.network import resnext
from bach_keras.network.weights import convert_weights, default_path
from datasets.digest import sha256_of
from tests.doctor.said import KERAS, START, Said
from tests.network.small_network import draw_tensors, network

ASKED = Asked()


@pytest.mark.parametrize(("version", "status"), [("2.21.0", PASS), ("2.21.1", WARN), ("2.19.0", FAIL)])
def test_another_version_of_tensorflow_is_named(version, status):
    found = tried.tensorflow(ASKED, Said(start=START | {"version": version}))
    assert found.status == status
    assert version in found.value
    assert status == PASS or found.fix == "`pip install tensorflow==2.21.0`"


def test_an_import_that_crashes_is_named_with_its_likely_cause():
    found = tried.tensorflow(ASKED, Said("the process was ended by SIGILL"))
    assert found.status == FAIL
    assert "AVX" in found.fix
    assert "ulimit -v" in tried.tensorflow(ASKED, Said("the process was ended by SIGKILL")).fix
    assert "requirements.txt" in tried.tensorflow(ASKED, Said("ImportError: no module")).fix


@pytest.mark.parametrize(
    ("changed", "status"),
    [({}, PASS), ({"version": "3.12.0"}, FAIL), ({"backend": "jax"}, FAIL), ({"floatx": "float16"}, FAIL)],
)
def test_another_keras_or_one_that_is_set_up_otherwise_is_named(changed, status):
    assert tried.keras(ASKED, Said(keras=KERAS | changed)).status == status


def test_onednn_that_is_off_and_what_that_costs_are_named(monkeypatch):
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    assert tried.onednn(ASKED, Said()).status == PASS
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    found = tried.onednn(ASKED, Said())
    assert (found.status, found.fix) == (WARN, "`unset TF_ENABLE_ONEDNN_OPTS`")
    assert tried.convolutions(ASKED, Said(convolutions={"native": True})).status == PASS
    found = tried.convolutions(ASKED, Said(convolutions={"native": False}))
    assert found.status == WARN
    assert "slower form" in found.value


def test_every_step_that_did_not_end_is_a_fail_with_the_reason():
    for check in (tried.tensorflow, tried.keras, tried.convolutions, tried.half_precision, tried.export):
        found = check(Asked(model="m"), Said("out of luck"))
        assert found.status == FAIL
        assert "out of luck" in found.value
    [found] = tried.weights(ASKED, Said("out of luck"))
    assert "out of luck" in found.value


@pytest.fixture
def card(tmp_path, monkeypatch):
    """Return a function that makes Linux know so much of an NVIDIA GPU."""
    for name in ("_PCI", "_PROC", "_DEVICES"):
        monkeypatch.setattr(gpus, name, tmp_path / name)
        (tmp_path / name).mkdir()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(gpus.shutil, "which", lambda name: None)

    def there(on_bus=False, driver="", devices=0):
        if on_bus:
            (tmp_path / "_PCI" / "0000:01:00.0").mkdir()
            (tmp_path / "_PCI" / "0000:01:00.0" / "class").write_text("0x030200\n")
            (tmp_path / "_PCI" / "0000:01:00.0" / "vendor").write_text("0x10de\n")
        if driver:
            line = f"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {driver}  Release Build\n"
            (tmp_path / "_PROC" / "version").write_text(line)
        for number in range(devices):
            (tmp_path / "_DEVICES" / f"nvidia{number}").touch()

    return there


@pytest.mark.parametrize(
    ("known", "step", "status", "value", "fix"),
    [
        ({}, START, PASS, "none: all is computed on the processor", ""),
        ({"on_bus": True}, START, WARN, "1 of NVIDIA, without a driver", "install NVIDIA's driver"),
        ({"driver": "470.256.02", "devices": 1}, START, WARN, "CUDA 12 needs 525 or later", "newer driver"),
        ({"driver": "580.65.06"}, START, WARN, "no device /dev/nvidia0", "let this container"),
        ({"driver": "580.65.06", "devices": 1}, START, WARN, "580.65.06 is there, and TensorFlow sees none",
         "pip install -r requirements-gpu.txt"),
        ({"driver": "580.65.06", "devices": 1}, START | {"has_cuda": False}, WARN, "built without CUDA",
         "pip install -r requirements-gpu.txt"),
        ({"driver": "580.65.06", "devices": 1}, START | {"gpus": ["H200 (9.0)"]}, PASS, "TensorFlow sees H200", ""),
        ({"driver": "580.65.06", "devices": 2}, START | {"gpus": ["H200 (9.0)"]}, WARN, "but 2 are there", "gpu.md"),
        ({"driver": "580.65.06", "devices": 1}, None, WARN, "TensorFlow does not start (bad luck)", "see TensorFlow"),
    ],
)  # fmt: skip
def test_a_gpu_that_tensorflow_does_not_see_is_named(card, known, step, status, value, fix):
    card(**known)
    found = tried.gpu(ASKED, Said("bad luck", **({"start": step} if step else {})))
    assert found.status == status
    assert value in found.value
    assert fix in found.fix
    wanted = tried.gpu(Asked(expects_gpu=True), Said("bad luck", **({"start": step} if step else {})))
    assert (wanted.status == FAIL) == (not (step and step["gpus"]))


def test_wsl_has_a_driver_and_no_devices(card, monkeypatch):
    card()
    monkeypatch.setattr(gpus.shutil, "which", lambda name: "/usr/lib/wsl/lib/nvidia-smi")
    found = tried.gpu(ASKED, Said(start=START))
    assert (found.status, found.value) == (
        WARN,
        "NVIDIA's driver of an unknown version is there, and TensorFlow sees none",
    )
    assert tried.gpu(ASKED, Said(start=START | {"gpus": ["RTX 4090 (8, 9)"]})).status == PASS


def test_a_gpu_that_is_hidden_on_purpose_passes(card, monkeypatch):
    card(driver="580.65.06", devices=1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert tried.gpu(ASKED, Said(start=START)).value.startswith("hidden by CUDA_VISIBLE_DEVICES")
    wanted = tried.gpu(Asked(expects_gpu=True), Said(start=START))
    assert (wanted.status, wanted.fix) == (FAIL, "`unset CUDA_VISIBLE_DEVICES`")


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """Return a function that looks at ported weights of a small network in ImageNet's default place, and their file."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(resnext, "resnext50", lambda shape: network(include_top=False))

    def look(asked=ASKED):
        found = tried.weights(asked, Said(weights=inside.weights({})))
        return {each.name: each for each in found}["weights imagenet"]

    source = tmp_path / "model.safetensors"
    save_file(draw_tensors(), source)
    return look, convert_weights(source, default_path(), model=network(include_top=False)), source


def test_weights_of_a_known_file_pass_and_of_another_are_a_warning(weights, monkeypatch):
    look, _, source = weights
    found = look()
    assert found.status == WARN
    assert "not known here" in found.value
    known = type("Known", (), {"name": "torchvision"})()
    monkeypatch.setattr("bach_keras.network.published.published_as", lambda digest: known)
    found = look()
    assert found.status == PASS
    assert found.value == f"torchvision (SHA-256 {sha256_of(source)[:8]}), its numbers are those written"


def test_weights_whose_numbers_changed_are_named(weights):
    look, path, _ = weights
    with h5py.File(path, "r+") as file:
        file["conv1.weight"][0, 0, 0, 0] += 1
    found = look()
    assert found.status == FAIL
    assert "holds other numbers than were written to it" in found.value
    assert found.fix == "`python cli.py weights fetch --overwrite`"


def test_weights_that_are_missing_matter_where_real_images_are_prepared(weights, monkeypatch):
    look, path, _ = weights
    path.unlink()
    assert look().status == PASS
    real = type("Real", (), {"config": "bisque", "is_built": True})()
    monkeypatch.setattr(tried, "reachable_sets", lambda asked: [real])
    found = look()
    assert (found.status, found.fix) == (WARN, "`python cli.py weights fetch`")


def test_an_export_is_opened_and_answers(exported):
    found = tried.export(Asked(model=exported), Said(export=inside.export({"model": str(exported)})))
    assert found.status == PASS
    assert "system at 32 pixels, float32, trained on phantom" in found.value


@pytest.mark.parametrize("damage", ["variables", "card", "graph", "no export"])
def test_an_export_that_is_damaged_is_named(exported, tmp_path, damage):
    copy = tmp_path / "1"
    if damage != "no export":
        shutil.copytree(exported, copy)
        name = {"variables": "variables/variables.data-00000-of-00001", "card": "assets/model_card.json"}
        file = copy / name.get(damage, "saved_model.pb")
        content = bytearray(file.read_bytes())
        content[len(content) // 2 : len(content) // 2 + 8] = bytes(8)
        file.write_bytes(content)
    found = tried.export(Asked(model=copy), Said(export=inside.export({"model": str(copy)})))
    assert found.status == FAIL
    assert str(copy) in found.value
