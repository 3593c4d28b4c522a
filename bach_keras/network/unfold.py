"""Folding undone: a network that can be trained again, from the kernels of its inference form and what folding loses.

``fold`` multiplies a kernel by gamma / sqrt(variance + epsilon) of the batch norm behind it, a factor for each channel.
Dividing by it gives the kernel back but for rounding. Of a channel whose factor is 0, or so small that its kernel fell
out of the type's range, nothing is left to divide: the kernel itself is kept.
"""

import hashlib
from collections.abc import Callable

import keras
import numpy as np

from bach_keras.network.fold import norms_behind
from bach_keras.network.resnext import BatchNorm

# The most that a kernel may be off after folding and unfolding, as a share of its channel's largest number: twice what
# the rounding of the types can do.
_OFF = {"float32": 2.0**-22, "bfloat16": 2.0**-7, "float16": 2.0**-10}

VECTORS = ("gamma", "beta", "moving_mean", "moving_variance")


def lost_by_folding(model: keras.Model, folded: Callable, precision: str) -> dict[str, np.ndarray]:
    """Return what ``unfolded`` needs beside the folded kernels.

    Args:
        model: the network as it was trained.
        folded: layer name and variable name -> the array that its inference form holds.
        precision: the type of that form's kernels.

    Returns:
        ``<norm>/<vector>`` of each batch norm, and for convolutions with channels that division does not give back
        ``<convolution>/channels`` int32 [n] and ``<convolution>/kernels`` float32 [h, w, in, n].
    """
    lost = {}
    for convolution, norm in norms_behind(model).items():
        vectors = {name: np.asarray(getattr(norm, name)) for name in VECTORS}
        lost |= {f"{norm.name}/{name}": vector for name, vector in vectors.items()}
        kernel = np.asarray(convolution.kernel)
        off = np.abs(_divided(folded(convolution.name, "kernel"), vectors, norm.epsilon) - kernel)
        most = _OFF[precision] * np.abs(kernel).max(axis=(0, 1, 2))
        # A comparison with NaN is false, so what overflowed is kept too.
        channels = np.flatnonzero(~(off.max(axis=(0, 1, 2)) <= most))
        if len(channels):
            lost[f"{convolution.name}/channels"] = channels.astype(np.int32)
            lost[f"{convolution.name}/kernels"] = kernel[..., channels]
    return lost


def unfolded(model: keras.Model, folded: Callable, lost: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the numbers of a network's variables: ``<layer>/<variable>`` -> float32.

    ``model`` is a network of the same layers, whose own numbers are not looked at; ``folded`` and ``lost`` are those of
    ``lost_by_folding``. The same input gives the same bits on every machine.
    """
    numbers, norms = {}, norms_behind(model)
    for layer in model.layers:
        if layer in norms:
            norm = norms[layer]
            vectors = {name: lost[f"{norm.name}/{name}"] for name in VECTORS}
            kernel = _divided(folded(layer.name, "kernel"), vectors, norm.epsilon)
            if f"{layer.name}/channels" in lost:
                kernel[..., lost[f"{layer.name}/channels"]] = lost[f"{layer.name}/kernels"]
            numbers[f"{layer.name}/kernel"] = kernel
        elif isinstance(layer, BatchNorm):
            numbers |= {f"{layer.name}/{name}": lost[f"{layer.name}/{name}"] for name in VECTORS}
        else:
            numbers |= {f"{layer.name}/{each.name}": folded(layer.name, each.name) for each in layer.weights}
    return numbers


def digest_of(numbers: dict[str, np.ndarray]) -> str:
    """Return the SHA-256 of a network's numbers by their names, in hex."""
    digest = hashlib.sha256()
    for name in sorted(numbers):
        digest.update(f"{name} {numbers[name].shape}\n".encode())
        digest.update(np.ascontiguousarray(numbers[name], "<f4").tobytes())
    return digest.hexdigest()


def _divided(kernel: np.ndarray, vectors: dict[str, np.ndarray], epsilon: float) -> np.ndarray:
    # In float64, so that the only rounding is that of the result.
    gamma, variance = (np.asarray(vectors[name], np.float64) for name in ("gamma", "moving_variance"))
    scale = gamma / np.sqrt(variance + epsilon)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return (np.asarray(kernel, np.float64) / scale).astype(np.float32)
