"""Trained weights into a small network."""

import hashlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file

from bach_keras.network.checkpoint import write_h5
from bach_keras.network.resnext import resnext50
from bach_keras.network.weights import convert_weights, default_path, load_weights, port_torch
from datasets.errors import MissingError, UserError, WorkError
from tests.full_disk import fill_the_disk
from tests.network.small_network import draw_tensors, network, torchvision_shapes


@pytest.fixture
def tensors():
    return draw_tensors()


def assert_refused(tensors, match, model=None):
    """Expect a refusal that matches, and a network that was left as it was."""
    model = model or network()
    before = model.get_weights()
    with pytest.raises(UserError, match=match):
        port_torch(model, tensors)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_each_weight_comes_from_its_tensor(tensors):
    model = network()
    port_torch(model, tensors)
    kernel = model.get_layer("layer2.0.conv2").kernel.numpy()
    assert kernel.shape == (3, 3, 4, 8)
    for out, depth, row, column in np.ndindex(8, 4, 3, 3):
        assert kernel[row, column, depth, out] == tensors["layer2.0.conv2.weight"][out, depth, row, column]
    batch_norm = model.get_layer("layer3.0.downsample.1")
    np.testing.assert_array_equal(batch_norm.gamma, tensors["layer3.0.downsample.1.weight"])
    np.testing.assert_array_equal(batch_norm.beta, tensors["layer3.0.downsample.1.bias"])
    np.testing.assert_array_equal(batch_norm.moving_mean, tensors["layer3.0.downsample.1.running_mean"])
    np.testing.assert_array_equal(batch_norm.moving_variance, tensors["layer3.0.downsample.1.running_var"])
    np.testing.assert_array_equal(model.get_layer("fc").kernel, tensors["fc.weight"].T)
    np.testing.assert_array_equal(model.get_layer("fc").bias, tensors["fc.bias"])


def test_every_weight_is_filled(tensors):
    model = network()
    for variable in model.weights:
        variable.assign(np.full(variable.shape, np.nan))
    port_torch(model, tensors)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


def test_a_network_without_a_top_ignores_only_the_top(tensors):
    model = network(include_top=False)
    port_torch(model, tensors)
    np.testing.assert_array_equal(model.get_layer("bn1").gamma, tensors["bn1.weight"])
    assert_refused(tensors | {"head.weight": np.ones(3)}, r"left over: 1 \(head.weight\)", model)


def test_the_full_network_takes_the_published_number_of_weights():
    # torchvision states 25,028,904 parameters for resnext50_32x4d; running statistics are not counted.
    shapes = torchvision_shapes((3, 4, 6, 3), stem=64, cardinality=32, base_width=4, classes=1000)
    parameters = (shape for name, shape in shapes.items() if name.endswith((".weight", ".bias")))
    assert sum(int(np.prod(shape)) for shape in parameters) == 25_028_904
    port_torch(
        resnext50((None, None, 3), include_top=True),
        {name: np.broadcast_to(np.float32(1), shape) for name, shape in shapes.items()},
    )


def test_missing_left_over_and_misshapen_tensors_are_named_together(tensors):
    for name in [name for name in tensors if name.startswith("layer4.0.bn")]:
        del tensors[name]
    tensors["se.weight"] = np.ones(2)
    tensors["fc.bias"] = np.ones(7)
    assert_refused(
        tensors,
        r"missing: 12 \(layer4.0.bn1.weight, layer4.0.bn1.bias, layer4.0.bn1.running_mean and 9 more\); "
        r"left over: 1 \(se.weight\); of a wrong shape: 1 \(fc.bias \[7\] instead of \[5\]\)",
    )


def test_a_transposed_kernel_is_a_wrong_shape(tensors):
    tensors["layer1.0.conv3.weight"] = tensors["layer1.0.conv3.weight"].transpose(2, 3, 1, 0)
    assert_refused(tensors, r"layer1.0.conv3.weight \[1, 1, 4, 16\] instead of \[16, 4, 1, 1\]")


def test_a_resnet_has_a_sentence_of_its_own():
    # ResNet-50 has the same names as ResNeXt-50, but one group.
    shapes = torchvision_shapes(cardinality=1, base_width=4)
    tensors = {name: np.ones(shape) for name, shape in shapes.items()}
    assert_refused(tensors, r"ungrouped network such as ResNet-50 .*\[4, 4, 3, 3\], not \[4, 2, 3, 3\]")


@pytest.mark.parametrize(
    ("part", "value"), [("running_var", np.nan), ("running_mean", np.inf), ("weight", -np.inf), ("bias", np.nan)]
)
def test_nan_and_infinity_are_refused_by_name(tensors, part, value):
    tensors[f"layer2.0.bn1.{part}"][1] = value
    assert_refused(
        tensors, rf"does not hold a trained network, tensors with NaN or infinity: 1 \(layer2.0.bn1.{part}\)"
    )


def test_kernels_and_the_top_are_checked_too(tensors):
    tensors["layer1.0.conv2.weight"][0, 0, 1, 1] = np.nan
    tensors["fc.weight"][0, 0] = np.inf
    assert_refused(tensors, r"NaN or infinity: 2 \(layer1.0.conv2.weight, fc.weight\)")


@pytest.mark.parametrize("value", [-1e-3, -1e-30])
def test_a_variance_below_0_is_refused_by_name(tensors, value):
    tensors["layer2.0.bn1.running_var"][1] = value
    assert_refused(tensors, r"variances below 0: 1 \(layer2.0.bn1.running_var\)")


def test_numbers_that_float32_cannot_hold_are_refused(tmp_path, tensors):
    wide = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}
    wide["conv1.weight"][0] = 1e300
    save_file(wide, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=r"NaN or infinity: 1 \(conv1.weight\)"):
        load_weights(network(), tmp_path / "w.safetensors")


@pytest.mark.parametrize("way", ["file", "arrays"])
def test_nothing_becomes_infinite_after_it_was_checked(tmp_path, tensors, way):
    wide = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}
    wide["bn1.running_mean"][0] = 1e39
    write_h5(tmp_path / "w.h5", wide)
    fill, source = {"arrays": (port_torch, wide), "file": (load_weights, tmp_path / "w.h5")}[way]
    with pytest.raises(UserError, match=r"NaN or infinity: 1 \(bn1.running_mean\)"):
        fill(network(), source)


def test_integer_weights_are_refused(tensors):
    tensors["conv1.weight"] = tensors["conv1.weight"].astype(np.int8)
    assert_refused(tensors, r"of a type other than floating point: 1 \(conv1.weight\)")


def test_converting_leaves_nothing_behind_where_a_variance_is_below_0(tmp_path, tensors):
    tensors["layer4.0.bn3.running_var"][0] = -1
    save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=r"w.safetensors does not hold a trained network, .*layer4.0.bn3.running_var"):
        convert_weights(tmp_path / "w.safetensors", tmp_path / "w.h5", model=network())
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


def test_a_top_of_too_many_classes_is_refused_before_it_is_built(tmp_path, tensors):
    depth = tensors["fc.weight"].shape[1]
    tensors |= {"fc.weight": np.zeros((10**5, depth), np.float32), "fc.bias": np.zeros(10**5, np.float32)}
    save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=r"has a top of 100,000 classes, not 1 to 50,000"):
        convert_weights(tmp_path / "w.safetensors", tmp_path / "w.h5", model=network(include_top=False))


def test_converting_keeps_a_top_of_any_width(tmp_path, tensors):
    tensors |= {"fc.weight": tensors["fc.weight"][:3], "fc.bias": tensors["fc.bias"][:3]}
    save_file(tensors, tmp_path / "w.safetensors")
    convert_weights(tmp_path / "w.safetensors", tmp_path / "w.h5", model=network(include_top=False))
    with h5py.File(tmp_path / "w.h5") as file:
        np.testing.assert_array_equal(file["fc.weight"], tensors["fc.weight"])
    tensors["fc.bias"] = np.zeros(4, np.float32)
    save_file(tensors, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"fc.bias \[4\] instead of \[3\]"):
        convert_weights(tmp_path / "other.safetensors", tmp_path / "v.h5", model=network(include_top=False))


def test_only_a_batch_norms_own_count_may_be_left_over(tensors):
    assert_refused(tensors | {"x.num_batches_tracked": np.zeros(())}, r"left over: 1 \(x.num_batches_tracked\)")
    assert_refused(tensors | {"bn1.num_batches_tracked": np.zeros(9)}, r"left over: 1 \(bn1.num_batches_tracked\)")


def test_converting_keeps_the_tensors_and_notes_where_they_came_from(tmp_path, tensors):
    source, dest = tmp_path / "model.safetensors", tmp_path / "new" / "w.h5"
    save_file(tensors, source)
    convert_weights(source, dest, model=network())
    with h5py.File(dest) as file:
        assert file.attrs["origin"] == "model.safetensors"
        assert file.attrs["source_sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    straight, through_h5 = network(), network()
    load_weights(straight, source)
    load_weights(through_h5, dest)
    for one, other in zip(straight.get_weights(), through_h5.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    backbone = network(include_top=False)
    load_weights(backbone, dest)
    np.testing.assert_array_equal(backbone.get_layer("conv1").kernel, straight.get_layer("conv1").kernel)


def test_ported_weights_whose_numbers_changed_are_refused(tmp_path, tensors):
    dest = tmp_path / "w.h5"
    save_file(tensors, tmp_path / "model.safetensors")
    convert_weights(tmp_path / "model.safetensors", dest, model=network())
    with h5py.File(dest, "r+") as file:
        file["bn1.weight"][0] += 1
    with pytest.raises(UserError, match="holds other numbers than were written to it"):
        load_weights(network(), dest)
    # Ported again, they would be given the digest of what they are now.
    with pytest.raises(UserError, match="holds other numbers than were written to it"):
        convert_weights(dest, tmp_path / "again.h5", model=network())
    with h5py.File(dest, "r+") as file:
        del file.attrs["tensors_sha256"]  # as earlier versions wrote it
    load_weights(network(), dest)


def test_converting_checks_against_resnext50_by_default(tmp_path, tensors):
    save_file(tensors, tmp_path / "small.safetensors")
    with pytest.raises(UserError, match=r"small.safetensors does not fit resnext50, tensors missing"):
        convert_weights(tmp_path / "small.safetensors", tmp_path / "w.h5")
    assert not (tmp_path / "w.h5").exists()


def test_converting_writes_to_free_h5_names_only(tmp_path, tensors):
    source, dest = tmp_path / "model.safetensors", tmp_path / "w.h5"
    save_file(tensors, source)
    with pytest.raises(UserError, match=r"must end in .h5"):
        convert_weights(source, tmp_path / "w.keras", model=network())
    dest.write_text("mine")
    with pytest.raises(UserError, match="already exists"):
        convert_weights(source, dest, model=network())
    assert dest.read_text() == "mine"
    convert_weights(source, dest, overwrite=True, model=network())
    load_weights(network(), dest)
    with pytest.raises(MissingError, match=r"absent.pth"):
        convert_weights(tmp_path / "absent.pth", tmp_path / "other.h5")


def test_load_weights_names_the_file(tmp_path, tensors):
    del tensors["conv1.weight"]
    save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=r"w.safetensors does not fit .*missing: 1 \(conv1.weight\)"):
        load_weights(network(), tmp_path / "w.safetensors")


def test_the_default_path_follows_keras_home(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert default_path() == tmp_path / "models" / "resnext50_imagenet.h5"
    monkeypatch.delenv("KERAS_HOME")
    assert default_path() == Path.home() / ".keras" / "models" / "resnext50_imagenet.h5"


def test_a_disk_that_fills_up_is_not_the_users_mistake(tmp_path, tensors):
    save_file(tensors, tmp_path / "w.safetensors")
    fill_the_disk(tmp_path / "w.h5")
    with pytest.raises(WorkError, match=r"w.h5 cannot be written"):
        convert_weights(tmp_path / "w.safetensors", tmp_path / "w.h5", model=network())
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]
