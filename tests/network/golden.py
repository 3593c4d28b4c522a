"""Reference answers of ResNeXt-50 (32x4d), computed by PyTorch in float64.

``python -m tests.network.golden`` computes golden.npz again (needs
requirements-bench.txt). Weights, batch-norm statistics and images are drawn by
the functions below, here and in the test alike, so only answers are stored.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_name("golden.npz")
SIZES = {"224": (224, 224), "288": (288, 288), "odd": (225, 301)}
STAGES = ("maxpool", "layer1", "layer2", "layer3", "layer4")
SAMPLES = 1000  # values of a stage that are kept


def draw_tensors(shapes: dict[str, Sequence[int]]) -> dict[str, np.ndarray]:
    """Draw a state dict: PyTorch's name -> shape to name -> float32, the same on every machine.

    Kernels are He-normal; batch-norm scales, shifts and statistics are random
    too, kept where activations neither die nor explode over sixteen blocks.
    """
    # RandomState: its stream is frozen for good, a Generator's is not.
    random = np.random.RandomState(0)
    tensors = {}
    for name in sorted(shapes):
        shape, kind = shapes[name], name.rpartition(".")[2]
        if len(shape) > 1:
            values = random.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        elif kind == "running_var":
            values = random.uniform(0.5, 1.5, shape)
        elif kind == "weight":
            values = random.uniform(0.2, 1.0, shape)
        else:
            values = 0.1 * random.standard_normal(shape)
        tensors[name] = values.astype(np.float32)
    return tensors


def draw_image(size: tuple[int, int]) -> np.ndarray:
    """Draw one normalised image, float32 [1, height, width, 3]."""
    return np.random.RandomState(1).standard_normal((1, *size, 3)).astype(np.float32)


def sample(features: np.ndarray) -> np.ndarray:
    """Pick values of [1, H, W, C] at random places, the same for the same shape."""
    places = np.random.RandomState(2).randint(features.size, size=SAMPLES)
    return features.ravel()[places]


def main():
    import torch

    from benchmarks.torch_resnext import TorchResNeXt

    model = TorchResNeXt().double().eval()
    state = model.state_dict()
    shapes = {name: tuple(value.shape) for name, value in state.items() if value.ndim}
    drawn = draw_tensors(shapes)
    model.load_state_dict({name: torch.tensor(drawn[name]) if name in drawn else state[name] for name in state})
    answers = {}
    for name, size in SIZES.items():
        image = torch.tensor(draw_image(size)).double().permute(0, 3, 1, 2)
        with torch.inference_mode():
            for stage, output in zip(STAGES, model.stages(image), strict=True):
                # Back to [1, H, W, C], in which the places are picked.
                answers[f"{name}.{stage}"] = sample(output.permute(0, 2, 3, 1).numpy())
            answers[f"{name}.logits"] = model(image).numpy()
    np.savez_compressed(FILE, **answers)
    for key, values in answers.items():
        print(f"{key}: {values.size} values, standard deviation {values.std():.3g}")


if __name__ == "__main__":
    main()
