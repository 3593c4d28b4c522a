"""Reading files of weights. The PyTorch files are written opcode by opcode, as torch.save does."""

import argparse
import pickle
import resource
import struct
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest
import safetensors
from safetensors.numpy import save_file

from bach_keras.network.checkpoint import Checkpoint, write_h5
from datasets.errors import UserError
from tests.network.torch_files import (
    COUNT,
    EMPTY_DICT,
    MATRIX,
    STATE_DICT,
    mapping,
    name,
    number,
    sequence,
    tensor,
    text,
    write_legacy,
    write_zip,
)


@pytest.fixture(params=[write_zip, write_legacy])
def write(request):
    return request.param


def assert_same(tensors, **expected):
    assert list(tensors) == list(expected)
    for key, array in expected.items():
        assert tensors[key].dtype == array.dtype
        np.testing.assert_array_equal(tensors[key], array)


def test_a_pytorch_state_dict_is_read(tmp_path, write):
    write(tmp_path / "w.pth", STATE_DICT, a=MATRIX, b=COUNT)
    assert_same(Checkpoint(tmp_path / "w.pth").read(), weight=MATRIX, count=COUNT)


def test_strides_offsets_and_shared_storages_are_followed(tmp_path, write):
    transposed = tensor("a", "FloatStorage", 6, shape=(3, 2), strides=(1, 3))
    second_row = tensor("a", "FloatStorage", 6, offset=3, shape=(3,), strides=(1,))
    write(tmp_path / "w.pth", mapping(t=transposed, row=second_row), a=MATRIX)
    assert_same(Checkpoint(tmp_path / "w.pth").read(), t=MATRIX.T, row=MATRIX[1])


@pytest.mark.parametrize(
    ("storage", "stored"),
    [
        ("HalfStorage", np.array([1.5, -2], np.float16)),
        ("DoubleStorage", np.array([1.5, -2], np.float64)),
        ("BFloat16Storage", np.array([0x3FC0, 0xC000], np.uint16)),
    ],
)
def test_every_float_becomes_float32(tmp_path, write, storage, stored):
    write(tmp_path / "w.pth", mapping(x=tensor("a", storage, 2, shape=(2,), strides=(1,))), a=stored)
    assert_same(Checkpoint(tmp_path / "w.pth").read(), x=np.array([1.5, -2], np.float32))


def test_parameters_in_a_dict_within_a_dict_have_its_name_in_front(tmp_path, write):
    parameter = name("torch._utils", "_rebuild_parameter") + sequence(
        tensor("a", "FloatStorage", 6, shape=(6,), strides=(1,)), b"\x88", EMPTY_DICT
    )
    state_dict = EMPTY_DICT + text("module.fc.weight") + parameter + b"R" + b"s"
    write(tmp_path / "w.pth", mapping(epoch=number(3), state_dict=state_dict), a=MATRIX)
    assert_same(Checkpoint(tmp_path / "w.pth").read(), **{"state_dict.module.fc.weight": MATRIX.ravel()})


ROW = tensor("a", "FloatStorage", 6, shape=(6,), strides=(1,))


def test_a_dict_that_is_held_twice_or_holds_itself_is_read_once(tmp_path, write):
    again = EMPTY_DICT + b"q\x05" + text("weight") + ROW + b"s" + text("itself") + b"h\x05" + b"s"
    write(tmp_path / "w.pth", mapping(model=again, average=b"h\x05"), a=MATRIX)
    assert_same(Checkpoint(tmp_path / "w.pth").read(), **{"model.weight": MATRIX.ravel()})


def test_two_tensors_that_would_have_one_name_are_refused(tmp_path, write):
    write(tmp_path / "w.pth", mapping(**{"a.b": ROW, "a": mapping(b=ROW)}), a=MATRIX)
    with pytest.raises(UserError, match=r"two tensors under the name 'a\.b'"):
        Checkpoint(tmp_path / "w.pth")


def made(module, kind, state):
    """An object as pickle's protocol 2 makes it: nothing but its type and its attributes."""
    return name(module, kind) + b")\x81" + state + b"b"


def test_torchvisions_own_training_checkpoint_is_read_and_its_settings_are_not_built(tmp_path, write):
    settings = mapping(
        lr=b"G" + struct.pack(">d", 0.1),
        device=name("torch", "device") + sequence(text("cuda")) + b"R",
        output_dir=name("pathlib", "PosixPath") + sequence(text("/"), text("x")) + b"R",
        train_crop_size=number(176),
        val_resize=b"]" + number(256) + b"a",
        best=name("numpy._core.multiarray", "scalar") + sequence(name("numpy", "dtype"), text("f8")) + b"R",
        milestones=name("collections", "Counter") + sequence(EMPTY_DICT) + b"R",
    )
    momentum = EMPTY_DICT + number(0) + mapping(momentum_buffer=ROW, step=number(3)) + b"s"
    write(
        tmp_path / "w.pth",
        mapping(
            model=mapping(weight=ROW),
            optimizer=mapping(
                state=momentum, param_groups=b"]" + mapping(lr=b"N", params=b"]" + number(0) + b"a") + b"a"
            ),
            lr_scheduler=mapping(_last_lr=b"]" + number(0) + b"a", last_epoch=number(3)),
            epoch=number(3),
            args=made("argparse", "Namespace", settings),
            model_ema=mapping(n_averaged=tensor("b", "LongStorage", 1, shape=(), strides=()), **{"module.weight": ROW}),
            scaler=mapping(scale=b"G" + struct.pack(">d", 65536.0)),
        ),
        a=MATRIX,
        b=COUNT,
    )
    checkpoint = Checkpoint(tmp_path / "w.pth")
    assert list(checkpoint.specs) == [
        "model.weight", "model_ema.n_averaged", "model_ema.module.weight", "optimizer.state.0.momentum_buffer"
    ]  # fmt: skip
    assert_same(checkpoint.read(["model.weight"]), **{"model.weight": MATRIX.ravel()})


@pytest.mark.parametrize("wrapper", ["model", "state_dict", "model_state_dict"])
def test_code_next_to_a_state_dict_is_refused_too(tmp_path, write, wrapper):
    victim = tmp_path / "ran"
    called = name("os", "system") + sequence(text(f"touch {victim}")) + b"R"
    write(tmp_path / "w.pth", mapping(**{wrapper: mapping(weight=ROW), "args": called}), a=MATRIX)
    with pytest.raises(UserError, match=r"asks for os\.system"):
        Checkpoint(tmp_path / "w.pth").read()
    assert not victim.exists()


@pytest.mark.parametrize(
    ("module", "attribute"),
    [("os", "system"), ("builtins", "eval"), ("torch", "load"), ("collections", "OrderedDict.fromkeys")],
)
def test_a_pickle_that_asks_for_code_is_refused_by_name(tmp_path, write, module, attribute):
    victim = tmp_path / "ran"
    opcodes = name(module, attribute) + sequence(text(f"touch {victim}")) + b"R"
    write(tmp_path / "w.pth", mapping(x=opcodes))
    with pytest.raises(UserError, match=rf"asks for {module}\.{attribute}"):
        Checkpoint(tmp_path / "w.pth").read()
    assert not victim.exists()


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [(1, (6,), (1,)), (0, (2, 3), (4, 1)), (-1, (6,), (1,)), (5, (6,), (-1,)), (0, (10**9,), (0,))],
)
def test_a_tensor_never_reaches_outside_its_storage(tmp_path, write, offset, shape, strides):
    write(
        tmp_path / "w.pth",
        mapping(x=tensor("a", "FloatStorage", 6, offset=offset, shape=shape, strides=strides)),
        a=MATRIX,
    )
    with pytest.raises(UserError, match=r"cut short or damaged .*outside its storage"):
        Checkpoint(tmp_path / "w.pth").read()


def test_a_tensor_outside_the_state_dict_may_be_empty_or_repeat_one_number(tmp_path, write):
    beside = {
        "empty": tensor("b", "FloatStorage", 0, shape=(0, 4), strides=(4, 1)),
        "repeated": tensor("c", "FloatStorage", 1, shape=(4,), strides=(0,)),
    }
    model = mapping(fc=tensor("a", "FloatStorage", 6, shape=(2, 3), strides=(3, 1)))
    numbers = {"a": MATRIX, "b": np.zeros(0, np.float32), "c": np.ones(1, np.float32)}
    write(tmp_path / "w.pth", mapping(model=model, optimizer=mapping(**beside)), **numbers)
    assert_same(Checkpoint(tmp_path / "w.pth").read(["model.fc"]), **{"model.fc": MATRIX})
    with pytest.raises(UserError, match=r"'optimizer\.empty' reaches outside its storage or repeats"):
        Checkpoint(tmp_path / "w.pth").read()


def test_a_huge_memo_number_takes_no_memory(tmp_path, write):
    write(tmp_path / "w.pth", number(3) + b"r" + struct.pack("<I", 1 << 22))
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match="holds no state dict"):
            Checkpoint(tmp_path / "w.pth").read()
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


def test_a_truncated_file_is_called_so(tmp_path):
    save_file({"weight": MATRIX}, tmp_path / "safetensors")
    write_h5(tmp_path / "h5", {"weight": MATRIX})
    write_zip(tmp_path / "zip", STATE_DICT, a=MATRIX, b=COUNT)
    write_legacy(tmp_path / "legacy", STATE_DICT, a=MATRIX, b=COUNT)
    for path in sorted(tmp_path.iterdir()):
        content = path.read_bytes()
        for length in range(9, len(content), max(1, len(content) // 100)):
            path.write_bytes(content[:length])
            with pytest.raises(UserError, match="is cut short or damaged"):
                Checkpoint(path).read()


def test_a_flipped_bit_in_a_zip_archive_is_seen(tmp_path):
    path = tmp_path / "w.pth"
    write_zip(path, STATE_DICT, a=MATRIX, b=COUNT)
    content = path.read_bytes()
    path.write_bytes(content.replace(MATRIX.tobytes(), (MATRIX + 1).tobytes()))
    with pytest.raises(UserError, match="is cut short or damaged"):
        Checkpoint(path).read()


def test_each_file_that_is_not_a_checkpoint_has_its_own_sentence(tmp_path):
    path = tmp_path / "w"

    def refused(match):
        with pytest.raises(UserError, match=match):
            Checkpoint(path).read()

    for content in (b"", b"<!doctype html> sign in", b"version https://git-lfs.github.com/spec/v1"):
        path.write_bytes(content)
        refused("is not a file of weights")
    path.write_bytes(pickle.dumps({"weight": 1}))
    refused("is a pickle, but not a PyTorch checkpoint")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    refused("is a zip archive, but not a PyTorch checkpoint")
    write_zip(path, STATE_DICT, zipfile.ZIP_DEFLATED, a=MATRIX, b=COUNT)
    refused("is a compressed archive")
    write_legacy(path, STATE_DICT, little_endian=False, a=MATRIX, b=COUNT)
    refused("big-endian")
    write_zip(path, mapping(epoch=number(3)))
    refused("holds no state dict: 'epoch' is not a tensor")
    write_zip(path, number(3))
    refused("holds no state dict")
    with h5py.File(path, "w") as file:
        file["weight"] = MATRIX
    refused("not one that `weights port` wrote")
    with pytest.raises(FileNotFoundError, match="no file of weights at"):
        Checkpoint(tmp_path / "absent.pth").read()


def test_safetensors_of_every_float_type_are_read(tmp_path):
    path = tmp_path / "w.bin"  # the suffix does not matter
    half = np.array([1.5, -2], np.float16)
    brain = np.array([0x3FC0, 0xC000], np.uint16)
    arrays = {"weight": ("float32", MATRIX), "half": ("float16", half), "brain": ("bfloat16", brain)}
    specs = {
        key: safetensors.TensorSpec(dtype=dtype, shape=array.shape, data_ptr=array.ctypes.data, data_len=array.nbytes)
        for key, (dtype, array) in arrays.items()
    }
    path.write_bytes(safetensors.serialize(specs))
    tensors = Checkpoint(path).read()
    expected = np.array([1.5, -2], np.float32)
    assert_same({key: tensors[key] for key in specs}, weight=MATRIX, half=expected, brain=expected)


def test_an_h5_keeps_tensors_and_attributes(tmp_path):
    path = tmp_path / "w.h5"
    write_h5(path, {"layer1.0.conv1.weight": MATRIX, "n": COUNT}, origin="here")
    assert_same(Checkpoint(path).read(), **{"layer1.0.conv1.weight": MATRIX, "n": COUNT})
    with h5py.File(path) as file:
        assert file.attrs["origin"] == "here"
    assert list(tmp_path.iterdir()) == [path]


def test_an_h5_that_cannot_be_written_leaves_the_old_file(tmp_path):
    path = tmp_path / "w.h5"
    write_h5(path, {"weight": MATRIX})
    with pytest.raises(TypeError):
        write_h5(path, {"weight": MATRIX, "bad": object()})
    assert_same(Checkpoint(path).read(), weight=MATRIX)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_that_pytorch_itself_writes_with_its_settings_is_read(tmp_path, zipped):
    torch = pytest.importorskip("torch")
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    steps = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5])
    average = torch.optim.swa_utils.AveragedModel(layer, use_buffers=True)
    settings = argparse.Namespace(lr=0.1, output_dir=tmp_path, device=torch.device("cpu"), type=torch.float32)
    parts = {"model": layer, "optimizer": optimizer, "lr_scheduler": steps, "model_ema": average}
    checkpoint = {name: part.state_dict() for name, part in parts.items()} | {"args": settings, "epoch": 1}
    torch.save(checkpoint, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    expected = {f"model.{key}": part.numpy() for key, part in layer.state_dict().items()}
    assert_same(Checkpoint(tmp_path / "w.pth").read(expected), **expected)


@pytest.mark.parametrize("zipped", [True, False])
def test_files_that_pytorch_itself_writes_are_read(tmp_path, zipped):
    torch = pytest.importorskip("torch")
    layer = torch.nn.BatchNorm1d(3)
    state_dict = layer.state_dict()
    state_dict["transposed"] = torch.tensor(MATRIX).t()
    state_dict["brain"] = torch.tensor([1.5, -2]).bfloat16()
    state_dict["parameter"] = torch.nn.Parameter(torch.tensor(MATRIX))
    torch.save(state_dict, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    expected = {key: value.detach() for key, value in state_dict.items()}
    expected["brain"] = expected["brain"].float()
    assert_same(Checkpoint(tmp_path / "w.pth").read(), **{key: value.numpy() for key, value in expected.items()})


def test_a_full_disk_is_one_sentence_and_not_a_page_of_hdf5s(tmp_path, capfd):
    held = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, held[1]))
    try:
        with pytest.raises(OSError, match=r"cannot be written: File too large\.$"):
            write_h5(tmp_path / "a.h5", {str(number): np.ones(10_000, np.float32) for number in range(5)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, held)
    assert capfd.readouterr().err == ""
    assert list(tmp_path.iterdir()) == []
