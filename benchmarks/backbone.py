"""Time of the backbone against PyTorch: ``python -m benchmarks.backbone [--rounds 5]``.

Two processes, one a framework, take turns on the same processor threads. Run
it on an idle machine: turns alone do not make up for other work on its cores,
which need not slow both alike. Needs requirements-bench.txt.
"""

import argparse
import copy
import functools
import importlib.util
import multiprocessing
import os
import platform
import re
import statistics
import timeit
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path

THREADS = 2
BATCH, SIDE, CLASSES = 10, 224, 2
RATE, MOMENTUM = 1e-3, 0.9
WARM_UP = 2
TRAINING = f"one training step, {BATCH} images"
INFERENCE = "inference, 1 image"


@functools.cache
def ours():
    """Return this project's two jobs by name, and how many weights they train."""
    import keras
    import numpy as np
    import tensorflow as tf

    from bach_keras.network.resnext import resnext50

    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(THREADS)
    tf.config.set_visible_devices([], "GPU")
    model = resnext50((SIDE, SIDE, 3), include_top=True, classes=CLASSES)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(RATE, momentum=MOMENTUM), loss, jit_compile=False)
    images = np.random.default_rng(0).normal(size=(BATCH, SIDE, SIDE, 3)).astype("float32")
    labels = np.arange(BATCH) % CLASSES
    infer = tf.function(lambda batch: model(batch, training=False))
    jobs = {
        TRAINING: lambda: model.train_on_batch(images, labels),
        INFERENCE: lambda: infer(images[:1]).numpy(),
    }
    return jobs, sum(weight.shape.num_elements() for weight in model.trainable_variables)


@functools.cache
def pytorch():
    """Return the same two jobs in eager PyTorch, channels last, and how many weights they train."""
    import torch
    from torch import nn

    def convolution(inputs, filters, size=1, stride=1, groups=1):
        layer = nn.Conv2d(inputs, filters, size, stride, size // 2, groups=groups, bias=False)
        return nn.Sequential(layer, nn.BatchNorm2d(filters))

    class Bottleneck(nn.Module):
        def __init__(self, inputs, width, filters, stride):
            super().__init__()
            self.reduce = convolution(inputs, width)
            self.grouped = convolution(width, width, 3, stride, groups=32)
            self.expand = convolution(width, filters)
            same = stride == 1 and inputs == filters
            self.shortcut = nn.Identity() if same else convolution(inputs, filters, 1, stride)

        def forward(self, x):
            y = self.expand(self.grouped(self.reduce(x).relu_()).relu_())
            return y.add_(self.shortcut(x)).relu_()

    torch.set_num_threads(THREADS)
    layers = [convolution(3, 64, 7, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for stage, count in enumerate((3, 4, 6, 3)):
        for block in range(count):
            filters = 256 * 2**stage
            layers.append(Bottleneck(inputs, filters // 2, filters, 2 if stage and not block else 1))
            inputs = filters
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, CLASSES))
    model = model.to(memory_format=torch.channels_last)
    inferring = copy.deepcopy(model).eval()  # so that no call spends time on changing the mode
    optimizer = torch.optim.SGD(model.parameters(), RATE, momentum=MOMENTUM)
    images = torch.randn(BATCH, 3, SIDE, SIDE).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(BATCH) % CLASSES

    def train():
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    def infer():
        with torch.inference_mode():
            return inferring(images[:1]).numpy()

    return {TRAINING: train, INFERENCE: infer}, sum(p.numel() for p in model.parameters())


def weights(build):
    """Return how many weights the network trains."""
    return build()[1]


def clock(build, job):
    """Return the seconds that the job takes, the network being built before."""
    return timeit.timeit(build()[0][job], number=1)


def measure(rounds):
    """Return job -> a list of [our seconds, PyTorch's seconds], one pair a round."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn) as own, ProcessPoolExecutor(1, spawn) as peer:
        sides = ((own, ours), (peer, pytorch))
        counts = [process.submit(weights, build).result() for process, build in sides]
        if counts[0] != counts[1]:
            raise ValueError(f"the two networks differ: {counts[0]} and {counts[1]} weights to train")

        def take_turns(job):
            return [process.submit(clock, build, job).result() for process, build in sides]

        jobs, turns = (TRAINING, INFERENCE), range(WARM_UP + rounds)
        return {job: [take_turns(job) for _ in turns][WARM_UP:] for job in jobs}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="turns of each framework (5)")
    rounds = parser.parse_args().rounds
    if rounds < 1:
        parser.error(f"--rounds must be at least 1, not {rounds}")
    if not importlib.util.find_spec("torch"):
        parser.error("PyTorch is not installed here: pip install -r requirements-bench.txt")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    seconds = measure(rounds)
    print(f"ResNeXt-50 (32x4d), {SIDE}x{SIDE}, float32, medians of {rounds} rounds in turns\n")
    print("| job | ours, ms | PyTorch, ms | ours / PyTorch: min - median - max |\n|---|---|---|---|")
    for job, pairs in seconds.items():
        own, peer = (1000 * statistics.median(column) for column in zip(*pairs, strict=True))
        ratios = [a / b for a, b in pairs]
        spread = f"{min(ratios):.2f} - {statistics.median(ratios):.2f} - {max(ratios):.2f}"
        print(f"| {job} | {own:.0f} | {peer:.0f} | {spread} |")
    names = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text()) or [platform.machine()]
    packages = ", ".join(f"{package} {version(package)}" for package in ("tensorflow", "keras", "torch"))
    print(f"\n{names[0]}, {os.cpu_count()} cores, {THREADS} threads each; {packages}")


if __name__ == "__main__":
    main()
