"""Finding networks by the names of a checkpoint's tensors."""

import pytest

from bach_keras.network.layouts import choose, left_over, networks
from bach_keras.network.tensors import RefusedError
from tests.network.small_network import torchvision_shapes

NAMES = list(torchvision_shapes())
PLACES = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7", "fc": "9"}


def in_sequence(name):
    part, _, rest = name.partition(".")
    return f"{PLACES[part]}.{rest}"


def of_tiatoolbox(name):
    return name.replace("fc.", "classifier.") if name.startswith("fc.") else f"feat_extract.{in_sequence(name)}"


def only(names):
    return choose(networks(names), lambda network: True)


PREFIXES = [
    "", "module.", "model.", "backbone.", "encoder.", "_orig_mod.module.", "module._orig_mod.", "model._orig_mod.",
    "module.module.", "state_dict.", "state_dict.model.backbone.", "model_state_dict.", "model.base_encoder.", "net.",
]  # fmt: skip


@pytest.mark.parametrize("prefix", PREFIXES)
def test_any_prefix_is_found(prefix):
    network = only([f"{prefix}{name}" for name in NAMES])
    assert network.prefix == prefix.replace("_orig_mod.", "")
    assert network.layout == "torchvision"
    assert network.names == {name: f"{prefix}{name}" for name in NAMES}


@pytest.mark.parametrize("prefix", ["", "module.", "state_dict."])
def test_tiatoolboxs_layout_is_found_with_its_top(prefix):
    network = only([f"{prefix}{of_tiatoolbox(name)}" for name in NAMES])
    assert (network.prefix, network.layout) == (f"{prefix}feat_extract.", "tiatoolbox")
    assert network.names == {name: f"{prefix}{of_tiatoolbox(name)}" for name in NAMES}


@pytest.mark.parametrize("prefix", ["", "encoder.", "features."])
def test_a_sequence_of_the_children_is_found(prefix):
    network = only([f"{prefix}{in_sequence(name)}" for name in NAMES])
    assert network.layout == "sequential"
    assert network.names == {name: f"{prefix}{in_sequence(name)}" for name in NAMES}


def test_a_part_that_was_compiled_has_its_own_names():
    names = [name.replace("layer1.", "layer1._orig_mod.") for name in NAMES]
    assert only(names).names == dict(zip(NAMES, names, strict=True))


def test_what_is_beside_the_network_is_left_over():
    others = [
        "head.weight",
        "projection.0.weight",
        "optimizer.state.0.momentum_buffer",
        "backbone.head.bias",
        "n_averaged",
    ]
    names = [*(f"backbone.{name}" for name in NAMES), *others]
    assert left_over(only(names), names) == others[:-1]


def test_a_head_of_several_layers_in_the_tops_place_is_left_over():
    inner = [name for name in NAMES if not name.startswith("fc.")]
    names = [*inner, "fc.0.weight", "fc.0.bias", "fc.2.weight"]
    assert left_over(only(names), names) == names[-3:]
    assert list(only(names).names) == inner


def test_what_is_inside_the_network_belongs_to_it():
    network = only([*NAMES, "layer1.0.se.fc1.weight"])
    assert "layer1.0.se.fc1.weight" in network.names


def test_two_networks_are_asked_about_by_their_prefixes():
    found = networks([f"{prefix}{name}" for prefix in ("model.", "model_ema.module.") for name in NAMES])
    with pytest.raises(RefusedError, match=r"holds 2 networks.*'model\.' and .*'model_ema\.module\.': choose one"):
        choose(found, lambda network: True)
    for prefix, expected in (("model", "model."), ("model.", "model."), ("model_ema", "model_ema.module.")):
        assert choose(found, lambda network: True, prefix).prefix == expected


def test_of_two_networks_the_only_complete_one_is_taken():
    found = networks([f"{prefix}{name}" for prefix in ("teacher.", "student.") for name in NAMES])
    assert choose(found, lambda network: network.prefix == "student.").prefix == "student."


def test_a_prefix_that_nothing_has_is_refused():
    with pytest.raises(RefusedError, match=r"no network behind the prefix 'ema': its networks have no prefix"):
        choose(networks(NAMES), lambda network: True, "ema")
    with pytest.raises(RefusedError, match="it has no network like this one"):
        choose([], lambda network: True, "ema")


def test_a_network_with_no_such_names_is_none():
    with pytest.raises(RefusedError, match="holds no ResNeXt"):
        only(["features.denseblock1.denselayer1.conv1.weight", "blocks.0.attn.qkv.weight"])


def test_two_tensors_of_the_same_name_are_refused():
    with pytest.raises(RefusedError, match=r"two tensors of the name 'layer1\.0\.conv1\.weight'"):
        networks([*NAMES, "layer1._orig_mod.0.conv1.weight"])


def test_a_thousand_networks_are_refused_at_once():
    with pytest.raises(RefusedError, match="holds 20000 networks"):
        networks([f"{number}.layer1.0.conv1.weight" for number in range(20_000)])
