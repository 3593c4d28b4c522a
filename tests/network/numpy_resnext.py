"""A ResNeXt in NumPy and float64, from PyTorch's definition of its layers: nothing of the project or of TensorFlow."""

import numpy as np


def convolve(x, kernel, stride=1):
    """Convolve [N, C, H, W] with a kernel [F, C / groups, k, k], with zeros of half a kernel around every image."""
    _, depth, size, _ = kernel.shape
    groups, border = x.shape[1] // depth, size // 2
    padded = np.pad(x, ((0, 0), (0, 0), (border, border), (border, border)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), (2, 3))[:, :, ::stride, ::stride]
    parts = [
        np.einsum("nchwij,fcij->nfhw", of_group, kernels)
        for of_group, kernels in zip(
            np.split(windows, groups, 1), kernel.reshape(groups, -1, *kernel.shape[1:]), strict=True
        )
    ]
    return np.concatenate(parts, 1)


def pooled(x):
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))[:, :, ::2, ::2]
    return windows.max((4, 5))


def stages(tensors, images):
    """Return the outputs of stem and stages, each [N, H, W, C], by a state dict in torchvision's names."""
    weights = {name: np.asarray(value, np.float64) for name, value in tensors.items()}

    def norm(x, name):
        gamma, beta, mean, variance = (
            weights[f"{name}.{part}"][:, None, None] for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta

    def layer(x, convolution, name, stride=1):
        return norm(convolve(x, weights[f"{convolution}.weight"], stride), name)

    def relu(x):
        return np.maximum(x, 0)

    x = pooled(relu(layer(np.moveaxis(np.asarray(images, np.float64), 3, 1), "conv1", "bn1", 2)))
    outputs = [x]
    for stage in range(1, 5):
        block = 0
        while f"layer{stage}.{block}.conv1.weight" in weights:
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = relu(layer(x, f"{name}.conv1", f"{name}.bn1"))
            y = relu(layer(y, f"{name}.conv2", f"{name}.bn2", stride))
            y = layer(y, f"{name}.conv3", f"{name}.bn3")
            is_projected = f"{name}.downsample.0.weight" in weights
            x = relu(y + (layer(x, f"{name}.downsample.0", f"{name}.downsample.1", stride) if is_projected else x))
            block += 1
        outputs.append(x)
    return [np.moveaxis(output, 1, 3) for output in outputs]
