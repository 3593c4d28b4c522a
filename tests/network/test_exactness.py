"""The full network against PyTorch's answers in float64, stage by stage; see golden.py."""

import keras
import numpy as np
import pytest

from bach_keras.network.fold import fold
from bach_keras.network.resnext import resnext50
from bach_keras.network.weights import port_torch, torch_shapes
from tests.network import golden

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def answers():
    """Return a function of form and size that gives the outputs of the stages and the logits."""
    model = resnext50((None, None, 3), include_top=True)
    port_torch(model, golden.draw_tensors(torch_shapes(model)))
    forms = {"plain": model, "folded": fold(model)}
    forms = {
        form: keras.Model(
            network.input, [*(network.get_layer(name).output for name in model.stage_outputs), network.output]
        )
        for form, network in forms.items()
    }
    return lambda form, size: [np.asarray(part) for part in forms[form](golden.draw_image(size), training=False)]


@pytest.fixture(scope="module")
def expected():
    with np.load(golden.FILE) as file:
        return dict(file)


def relative_error(values, reference):
    return np.linalg.norm(values - reference) / np.linalg.norm(reference)


@pytest.mark.parametrize("form", ["plain", "folded"])
@pytest.mark.parametrize("size", golden.SIZES)
def test_every_stage_equals_pytorchs(answers, expected, form, size):
    *stages, logits = answers(form, golden.SIZES[size])
    errors = {
        stage: relative_error(golden.sample(features), expected[f"{size}.{stage}"])
        for stage, features in zip(golden.STAGES, stages, strict=True)
    }
    errors["logits"] = relative_error(logits, expected[f"{size}.logits"])
    print(errors)
    assert max(errors.values()) < TOLERANCE, errors


def test_the_comparison_sees_a_shift_by_one_pixel(answers, expected):
    """TensorFlow's own "same" padding at stride 2 would shift the features like this."""
    stem, *_ = answers("plain", (224, 224))
    shifted = golden.sample(np.roll(stem, 1, axis=2))
    assert relative_error(shifted, expected["224.maxpool"]) > 0.1
