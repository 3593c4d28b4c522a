"""A small network with every kind of layer that ResNeXt-50 has, and a state dict of it as torchvision names it."""

import numpy as np

from bach_keras.network.resnext import Architecture, ResNeXt

CLASSES = 5


def torchvision_shapes(blocks=(1, 1, 1, 1), stem=4, cardinality=2, base_width=2, classes=CLASSES):
    """Return torchvision's names and shapes of a ResNeXt, as its module tree makes them."""
    shapes = {}

    def convolution(name, filters, depth, size):
        shapes[f"{name}.weight"] = (filters, depth, size, size)

    def batch_norm(name, width):
        for vector in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{vector}"] = (width,)
        shapes[f"{name}.num_batches_tracked"] = ()

    convolution("conv1", stem, 3, 7)
    batch_norm("bn1", stem)
    depth = stem
    for stage, count in enumerate(blocks):
        width, filters = cardinality * base_width * 2**stage, 4 * stem * 2**stage
        for block in range(count):
            name = f"layer{stage + 1}.{block}"
            convolution(f"{name}.conv1", width, depth, 1)
            convolution(f"{name}.conv2", width, width // cardinality, 3)
            convolution(f"{name}.conv3", filters, width, 1)
            for number, channels in enumerate((width, width, filters), start=1):
                batch_norm(f"{name}.bn{number}", channels)
            if block == 0:
                convolution(f"{name}.downsample.0", filters, depth, 1)
                batch_norm(f"{name}.downsample.1", filters)
            depth = filters
    shapes["fc.weight"], shapes["fc.bias"] = (classes, depth), (classes,)
    return shapes


def network(include_top=True):
    return ResNeXt((32, 32, 3), include_top, CLASSES, Architecture((1, 1, 1, 1), cardinality=2, base_width=2, stem=4))


def draw_tensors():
    """Return a state dict of the network: name -> float32."""
    rng = np.random.default_rng(0)
    return {name: rng.uniform(0.5, 1.5, shape).astype(np.float32) for name, shape in torchvision_shapes().items()}
