"""What `weights inspect` says of each layout, and that `weights port` takes what it calls portable."""

import json
import logging

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

from bach_keras.network import facts, weights
from bach_keras.network.checkpoint import write_h5
from bach_keras.network.held import Held
from bach_keras.network.inspection import inspect_weights
from bach_keras.network.published import PUBLISHED
from bach_keras.network.recognise import RESNEXT50, recognise
from bach_keras.network.weights import Asked, convert_weights, load_weights
from cli import cli
from datasets.digest import sha256_of
from datasets.errors import UserError
from tests.network.layout_files import tiatoolbox, trained, with_counts, write
from tests.network.small_network import draw_tensors, network, torchvision_shapes

PLAIN = draw_tensors()


def prefixed(prefix, tensors):
    return {f"{prefix}{name}": value for name, value in tensors.items()}


HALF = {name: value.astype(np.float16) for name, value in PLAIN.items()}
MIXED = {name: value.astype("f2" if "conv" in name else "f4") for name, value in PLAIN.items()}
WIDE = {name: value.astype(np.float64) for name, value in PLAIN.items()}
HEADS = {"epoch.best": np.ones(1, np.float32), "projection.0.weight": np.ones((3, 3), np.float32)}

# What is in the file -> what is said of it, of these fields.
LAYOUTS = {
    "torchvision": (trained(), {"layout": "torchvision", "prefix": "", "classes": 5, "normalisation": "imagenet"}),
    "a thousand classes": (trained(1000), {"classes": 1000, "normalisation_known_by": "nothing"}),
    "facebook": (prefixed("module.", trained()), {"prefix": "module.", "dtype": "float32"}),
    "trained again": (
        {"model": trained(), "optimizer": {"state": {"0": HEADS}}, "epoch": HEADS},
        {"prefix": "model.", "left_over": {"count": 4, "names": [
            "epoch.epoch.best", "epoch.projection.0.weight", "optimizer.state.0.epoch.best",
            "optimizer.state.0.projection.0.weight"]}},
    ),
    "lightning": ({"state_dict": prefixed("model.backbone.", trained())}, {"prefix": "state_dict.model.backbone."}),
    "no top": (
        prefixed("encoder.", {name: value for name, value in trained().items() if not name.startswith("fc.")}) | HEADS,
        {"classes": None, "left_over": {"count": 2, "names": list(HEADS)}},
    ),
    "tiatoolbox": (
        tiatoolbox(9),
        {"layout": "tiatoolbox", "prefix": "feat_extract.", "classes": 9, "normalisation": "unit",
         "normalisation_known_by": "layout",
         "source": "w.pth, in tiatoolbox's layout, with as many classes as Kather100K has",
         "licence": "CC BY 4.0, if it is tiatoolbox's of Kather100K"},
    ),
    "tiatoolbox of two classes": (
        tiatoolbox(2),
        {"classes": 2, "normalisation": "unit", "licence": "CC0 1.0, if it is tiatoolbox's of PCam"},
    ),
    "tiatoolbox of four classes": (
        tiatoolbox(4), {"source": "w.pth, in tiatoolbox's layout", "normalisation": "unit", "licence": None}
    ),
    "half": (HALF, {"dtype": "half"}),
    "mixed": (MIXED, {"dtype": "mixed"}),
    "double": (WIDE, {"dtype": "float64"}),
}  # fmt: skip


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_is_told_and_ported(tmp_path, layout, zipped):
    tensors, expected = LAYOUTS[layout]
    path = write(tmp_path / "w.pth", tensors, zipped)
    said = inspect_weights(path, model=network(include_top=False))
    assert {name: said[name] for name in expected} == expected
    assert (said["portable"], said["why_not"], said["missing"]["count"]) == (True, None, 0)
    assert said["sha256"] == sha256_of(path)
    assert (said["groups"], said["width_per_group"], said["blocks"]) == (2, 2, [1, 1, 1, 1])
    assert not said["is_resnext50_32x4d"]
    model = network(include_top=False)
    convert_weights(path, tmp_path / "w.h5", model=model)
    ours = inspect_weights(tmp_path / "w.h5", model=model)
    assert ours["layout"] == "ours"
    assert ours["portable"]
    assert ours["dtype"] == "float32"
    for name in ("normalisation", "licence", "classes", "network"):
        assert ours[name] == said[name]
    assert ours["normalisation_known_by"] == "attributes"


def test_numbers_are_those_of_the_file_whatever_its_layout(tmp_path):
    convert_weights(write(tmp_path / "w.pth", tiatoolbox(5)), tmp_path / "w.h5", model=network())
    with h5py.File(tmp_path / "w.h5") as file:
        assert set(file) == set(trained())
        for name, value in trained().items():
            np.testing.assert_array_equal(file[name], value)
    convert_weights(write(tmp_path / "half.pth", HALF), tmp_path / "half.h5", model=network())
    with h5py.File(tmp_path / "half.h5") as file:
        np.testing.assert_array_equal(file["conv1.weight"], HALF["conv1.weight"].astype(np.float32))


def test_a_model_and_its_average_are_asked_about(tmp_path):
    other = {name: value + 1 for name, value in PLAIN.items()}
    path = write(tmp_path / "w.pth", {"model": trained(), "model_ema": prefixed("module.", with_counts(other))})
    said = inspect_weights(path, model=network())
    assert not said["portable"]
    assert [each["prefix"] for each in said["networks"]] == ["model.", "model_ema.module."]
    assert {each["network"] for each in said["networks"]} == {"ResNeXt (2x2d) of 1, 1, 1, 1 blocks"}
    assert (said["is_resnext50_32x4d"], said["left_over"]["count"]) == (None, 0)
    assert "choose one with `weights port --prefix`" in said["why_not"]
    with pytest.raises(UserError, match="holds 2 networks"):
        convert_weights(path, tmp_path / "w.h5", model=network())
    with pytest.raises(UserError, match="holds 2 networks"):
        load_weights(network(), path)
    assert inspect_weights(path, "model_ema", network())["portable"]
    convert_weights(path, tmp_path / "w.h5", asked=Asked("model_ema"), model=network())
    with h5py.File(tmp_path / "w.h5") as file:
        np.testing.assert_array_equal(file["conv1.weight"], other["conv1.weight"])
    with pytest.raises(UserError, match=r"w.pth has no network behind the prefix 'ema': its"):
        inspect_weights(path, "ema", network())


def test_a_training_takes_the_one_network_of_a_file_that_port_takes(tmp_path, monkeypatch):
    wider = {name: np.ones(shape, np.float32) for name, shape in torchvision_shapes(stem=8).items()}
    incomplete = {name: value for name, value in PLAIN.items() if not name.startswith("bn1.")}
    path = write(tmp_path / "w.pth", {"teacher": wider, "student": trained(), "earlier": incomplete})
    monkeypatch.setattr(weights, "resnext50", lambda shape: network(include_top=False))
    assert weights.facts_of_file(path).source == "w.pth"
    model = network(include_top=False)
    load_weights(model, path)
    convert_weights(path, tmp_path / "w.h5", model=model)


def test_what_would_be_missing_left_over_or_refused_is_told(tmp_path):
    broken = {name: value for name, value in trained().items() if not name.startswith("layer3.0.bn2.")}
    broken["layer1.0.se.fc1.weight"] = np.ones((2, 4, 1, 1), np.float32)
    said = inspect_weights(write(tmp_path / "w.pth", broken), model=network())
    assert said["missing"]["count"] == 4
    assert said["left_over"] == {"count": 1, "names": ["layer1.0.se.fc1.weight"]}
    assert not said["portable"]
    assert "does not fit" in said["why_not"]
    spoilt = trained()
    spoilt["bn1.weight"] = spoilt["bn1.weight"] * np.nan
    said = inspect_weights(write(tmp_path / "nan.pth", spoilt), model=network())
    assert not said["portable"]
    assert "NaN or infinity: 1 (bn1.weight)" in said["why_not"]


def test_names_that_move_a_cursor_are_escaped(tmp_path):
    path = tmp_path / "w\x1b.safetensors"
    save_file(prefixed("\x1b[2J\u202e.", PLAIN) | {"\x1b[1A": np.ones(1, np.float32)}, path)
    answer = CliRunner().invoke(cli, ["weights", "inspect", str(path)])
    assert answer.exit_code == 0
    assert answer.output.isascii()
    assert "\x1b" not in answer.output
    assert json.loads(answer.output)["portable"] is False


def test_a_file_of_something_else_is_told_and_one_that_cannot_be_read_is_refused(tmp_path):
    path = write(tmp_path / "w.pth", {"blocks.0.attn.qkv.weight": np.ones((3, 3), np.float32)})
    said = inspect_weights(path, model=network())
    assert (said["portable"], said["network"], said["tensors"]) == (False, None, 1)
    assert "holds no ResNeXt" in said["why_not"]
    path.write_bytes(path.read_bytes()[:100])
    answer = CliRunner().invoke(cli, ["weights", "inspect", str(path)])
    assert answer.exit_code == 2
    assert "is cut short or damaged" in answer.output
    answer = CliRunner().invoke(cli, ["weights", "inspect", str(tmp_path / "absent")])
    assert (answer.exit_code, answer.output.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    ("shape", "title"),
    [
        ({"blocks": (3, 4, 6, 3), "stem": 64, "cardinality": 32, "base_width": 4}, "ResNeXt-50 (32x4d)"),
        ({"blocks": (3, 4, 23, 3), "stem": 64, "cardinality": 32, "base_width": 8}, "ResNeXt-101 (32x8d)"),
        ({"blocks": (3, 4, 6, 3), "stem": 64, "cardinality": 1, "base_width": 64}, "ResNet-50"),
        ({"blocks": (3, 4, 6, 3), "stem": 64, "cardinality": 1, "base_width": 128}, "Wide ResNet-50"),
        ({"blocks": (1, 1, 1, 1)}, "ResNeXt (2x2d) of 1, 1, 1, 1 blocks"),
    ],
)
def test_a_network_is_called_by_its_name(shape, title):
    shapes = {name: list(each) for name, each in torchvision_shapes(**shape).items()}
    assert recognise(shapes).title == title
    assert (recognise(shapes) == RESNEXT50) == (title == "ResNeXt-50 (32x4d)")
    del shapes["layer1.0.conv2.weight"]
    assert recognise(shapes) is None


def test_a_deeper_network_is_refused_by_its_name():
    def shapes(*blocks, width):
        made = torchvision_shapes(blocks, stem=64, cardinality=32, base_width=width)
        return {name: list(shape) for name, shape in made.items()}

    wanted = shapes(3, 4, 6, 3, width=4)
    with pytest.raises(UserError, match=r"it is a ResNeXt-101 \(32x8d\), not a ResNeXt-50 \(32x4d\)\."):
        weights.check_shapes(shapes(3, 4, 23, 3, width=8), wanted, "w.pth does not fit")
    with_squeeze = {**shapes(3, 4, 6, 3, width=4), "layer1.0.se.fc1.weight": [1, 1, 1, 1]}
    with pytest.raises(UserError, match=r"it is a ResNeXt-50 .* with squeeze-and-excitation"):
        weights.check_shapes(with_squeeze, wanted, "w.pth does not fit")


def test_a_normalisation_is_taken_from_the_user_where_nothing_else_says_it(tmp_path):
    path = write(tmp_path / "w.pth", trained(9))
    convert_weights(path, tmp_path / "unit.h5", asked=Asked(normalisation="unit"), model=network(include_top=False))
    with h5py.File(tmp_path / "unit.h5") as file:
        assert file.attrs["normalisation"] == "unit"
    known = tmp_path / "unit.h5"
    with pytest.raises(UserError, match="as the file says, so --normalisation imagenet"):
        convert_weights(
            known, tmp_path / "x.h5", asked=Asked(normalisation="imagenet"), model=network(include_top=False)
        )
    assert not (tmp_path / "x.h5").exists()


def test_a_published_name_says_a_licence_that_another_normalisation_takes_back(tmp_path):
    path = write(tmp_path / "resnext50_32x4d-kather100k.pth", tiatoolbox(9))
    assert weights.facts_of_file(path).licence == "CC BY 4.0"
    found = facts.facts_of(Held.open(path, {}), "imagenet")
    assert (found.normalisation, found.licence) == ("imagenet", None)


def test_a_layout_gives_a_normalisation_with_a_warning_and_the_users_word_overrides_it(tmp_path, caplog):
    path, model = write(tmp_path / "w.pth", tiatoolbox()), network(include_top=False)
    for given, found, warning in (
        (None, "unit", "for pixels / 255 alone, as networks in this layout were trained: if this one was trained on"),
        ("imagenet", "imagenet", "as --normalisation says, though networks in its layout, tiatoolbox's, were trained"),
        ("unit", "unit", None),
    ):
        caplog.clear()
        asked = Asked(normalisation=given)
        convert_weights(path, tmp_path / "w.h5", asked=asked, overwrite=True, model=model)
        with h5py.File(tmp_path / "w.h5") as file:
            assert file.attrs["normalisation"] == found
            assert ("licence" in file.attrs) == (found == "unit")
        assert [warning in line for line in caplog.messages] == [True] * bool(warning)
    assert weights.facts_of_file(path).normalisation == "unit"
    assert "port it with --normalisation imagenet" in caplog.text


def test_a_licence_that_forbids_commercial_use_is_said_wherever_the_weights_go(tmp_path, monkeypatch, caplog):
    """As the file is known by its digest alone, another one stands in for Facebook's."""
    caplog.set_level(logging.INFO)
    path = write(tmp_path / "w.pth", prefixed("module.", trained(1000)))
    known = {sha256_of(path): PUBLISHED["semi-weakly-supervised"]}
    monkeypatch.setattr(facts, "published_as", known.get)
    said = inspect_weights(path, model=network(include_top=False))
    assert (said["normalisation_known_by"], said["licence"]) == ("digest", "CC BY-NC 4.0, not for commercial use")
    convert_weights(path, tmp_path / "w.h5", model=network(include_top=False))
    assert "licence: CC BY-NC 4.0, not for commercial use" in caplog.messages
    monkeypatch.undo()
    said = inspect_weights(tmp_path / "w.h5", model=network(include_top=False))
    assert (said["normalisation_known_by"], said["licence"]) == ("attributes", "CC BY-NC 4.0, not for commercial use")


def test_a_top_of_other_data_than_imagenet_is_asked_about(tmp_path, caplog):
    model = network(include_top=False)
    convert_weights(write(tmp_path / "w.pth", trained(9)), tmp_path / "w.h5", model=model)
    assert any("has 9 classes" in line and "--normalisation unit" in line for line in caplog.messages)
    caplog.clear()
    convert_weights(write(tmp_path / "v.pth", trained(1000)), tmp_path / "v.h5", model=model)
    assert caplog.messages == []


def attributes(value):
    return {"normalisation": value, "origin": "here", "source_sha256": "0" * 64}


@pytest.mark.parametrize("value", ["zero-centred", "", 3, b"\xff\xfe", np.zeros(3), "x" * 1000])
def test_a_file_of_ours_with_an_unknown_normalisation_is_refused(tmp_path, value):
    write_h5(tmp_path / "w.h5", PLAIN, **attributes(value))
    with pytest.raises(UserError, match=r"w\.h5 (is for the normalisation|says something of its normalisation|is cut)"):
        load_weights(network(), tmp_path / "w.h5")


def test_a_file_of_ours_from_before_is_for_imagenet(tmp_path):
    write_h5(tmp_path / "w.h5", PLAIN, origin="here", source_sha256="7cdf4587" + "0" * 56)
    load_weights(network(), tmp_path / "w.h5")
    said = inspect_weights(tmp_path / "w.h5", model=network())
    assert (said["normalisation"], said["normalisation_known_by"]) == ("imagenet", "nothing")
    # It is known by the digest of what it was ported from.
    assert said["licence"] == "BSD-3-Clause"
    assert said["source"].startswith("torchvision, ")


def test_safetensors_are_told_too(tmp_path):
    save_file(prefixed("backbone.", PLAIN), tmp_path / "w.safetensors")
    said = inspect_weights(tmp_path / "w.safetensors", model=network())
    assert (said["format"], said["prefix"], said["portable"]) == ("safetensors", "backbone.", True)
