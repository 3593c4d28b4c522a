"""What `predict` costs end to end: ``python -m benchmarks.answers --images DIR [--count 16] [--rounds 5]``.

A tree of the full size, with random weights, answers for TIFFs of BACH's size, 2048x1536, which are made of the images
of a folder, mirrored at their borders, or of phantoms. The sides alternate on the same files: `predict`; what it did in
the version before, which sent each batch as PNG files of whole images through ``serving_default``; a plain PyTorch
loader and network, in a process of its own; and the parts of the work alone.
"""

import argparse
import itertools
import multiprocessing
import os
import statistics
import tempfile
import timeit
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from bach_keras.packed_kernels import keep_packed_kernels
from benchmarks.png import pillow  # the version before encoded so
from benchmarks.tree import ratios

WIDTH, HEIGHT, THREADS, WARM_UP = 2048, 1536, 2, 1
PREDICT, BEFORE, PYTORCH = "predict", "the version before", "PyTorch"
READ, SQUARE, NETWORK = "read alone", "square alone", "network alone"


def draw(source, count, folder) -> list[Path]:
    """Write the TIFFs, uncompressed as BACH's."""
    import numpy as np
    from PIL import Image

    from datasets import phantom
    from datasets.images.folder import find_images
    from datasets.images.read import read_rgb
    from datasets.labels import CLASSES

    if source:
        found = map(read_rgb, itertools.islice(itertools.cycle(find_images([source])), count))
    else:
        found = (phantom.draw(CLASSES[number % 4], phantom.PATIENTS + number, 0) for number in range(count))
    made = []
    for number, image in enumerate(found):
        rest = [(side - given) // 2 + 1 for side, given in ((HEIGHT, image.shape[0]), (WIDTH, image.shape[1]))]
        mirrored = np.pad(image, [(max(0, r), max(0, r)) for r in rest] + [(0, 0)], mode="symmetric")
        made.append(Path(folder) / f"{number:03d}.tif")
        Image.fromarray(mirrored[:HEIGHT, :WIDTH]).save(made[-1])
    return made


def build(size, place) -> None:
    """Export a tree of three networks with random weights."""
    from dataclasses import replace

    import numpy as np

    from bach_keras.provenance import Provenance
    from bach_keras.serving.export import export_tree
    from benchmarks.tree import members

    images = np.random.default_rng(1).integers(0, 256, (8, size, size, 3)).astype(np.uint8)
    nothing = Provenance(frozenset({"nothing"}), frozenset(), frozenset())
    made = members({"carci": 1, "norbe": 1, "invis": 1}, size, images)
    export_tree([replace(member, provenance=nothing, config="random") for member in made], place)


def ours(export, paths):
    """Return side -> a callable that does its work on all files."""
    import numpy as np

    from bach_keras.serving.predict import BATCH, predict_files
    from datasets.images.read import read_rgb

    def before():
        answers = []
        for start in range(0, len(paths), BATCH):
            files = [pillow(read_rgb(path)) for path in paths[start : start + BATCH]]
            answers += export.encoded(files)["probabilities"].numpy().tolist()
        return answers

    def predict():
        return [list(row["probabilities"].values()) for row in predict_files(export, paths)]

    assert predict() == before()  # to the bit
    pixels = [read_rgb(path) for path in paths]
    squares = [np.stack(list(map(export.prepared, pixels[at : at + BATCH]))) for at in range(0, len(paths), BATCH)]
    return {
        PREDICT: predict,
        BEFORE: before,
        READ: lambda: [read_rgb(path) for path in paths],
        SQUARE: lambda: [export.prepared(image) for image in pixels],
        NETWORK: lambda: [export.images(batch)["probabilities"].numpy() for batch in squares],
    }


_PEER = {}


def start_pytorch(paths, size) -> None:
    """Make PyTorch's loader and networks, in the process that will run them.

    Pillow reads, resizes with antialiasing and crops in two workers of a DataLoader; three networks share one trunk as
    ours do, channels last.
    """
    import numpy as np
    import torch
    from PIL import Image

    from bach_keras.preprocess import DEVIATION, MEAN
    from benchmarks.torch_resnext import TorchResNeXt

    torch.set_num_threads(THREADS)
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (MEAN, DEVIATION))

    class Files(torch.utils.data.Dataset):
        def __len__(self):
            return len(paths)

        def __getitem__(self, index):
            image = Image.open(paths[index]).convert("RGB")
            scale = size / min(image.size)
            image = image.resize([round(side * scale) for side in image.size], Image.Resampling.BILINEAR)
            left, top = ((side - size) // 2 for side in image.size)
            square = np.asarray(image.crop((left, top, left + size, top + size)))
            return (torch.from_numpy(square.copy()).permute(2, 0, 1) / 255 - mean) / deviation

    networks = [TorchResNeXt(2).eval().to(memory_format=torch.channels_last) for _ in range(3)]
    trunk = torch.nn.Sequential(*list(networks[0].children())[:6])
    rests = [torch.nn.Sequential(*list(each.children())[6:-1], torch.nn.Flatten(), each.fc) for each in networks]
    loader = torch.utils.data.DataLoader(
        Files(), 8, num_workers=2, persistent_workers=True, multiprocessing_context="fork"
    )

    def run():
        answers = []
        with torch.inference_mode():
            for batch in loader:
                features = trunk(batch.contiguous(memory_format=torch.channels_last))
                carci, norbe, invis = (torch.softmax(rest(features), 1) for rest in rests)
                answers += torch.cat([carci[:, :1] * norbe, carci[:, 1:] * invis], 1).tolist()
        return answers

    _PEER["run"] = run


def pytorch() -> float:
    """Return the seconds of PyTorch's side."""
    return timeit.timeit(_PEER["run"], number=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="a folder of images to make the TIFFs of (phantoms)")
    parser.add_argument("--count", type=int, default=16, help="TIFFs (16)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side (5)")
    parser.add_argument("--size", type=int, default=288, help="side of the squares in pixels (288)")
    given = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as place:
        # A process of its own frees its gigabytes when it ends.
        with ProcessPoolExecutor(1, spawn) as pool:
            paths = pool.submit(draw, given.images, given.count, place).result()
            pool.submit(build, given.size, f"{place}/tree/1").result()
        keep_packed_kernels()
        from bach_keras.serving.exported import Export

        sides = ours(Export(f"{place}/tree/1"), paths)
        seconds = {name: [] for name in (*sides, PYTORCH)}
        with ProcessPoolExecutor(1, spawn, start_pytorch, (paths, given.size)) as peer:
            for number in range(WARM_UP + given.rounds):
                taken = {name: timeit.timeit(run, number=1) for name, run in sides.items()}
                taken[PYTORCH] = peer.submit(pytorch).result()
                for name in seconds if number >= WARM_UP else ():
                    seconds[name].append(taken[name])
    print(f"{given.count} TIFFs of {WIDTH}x{HEIGHT} at {given.size}, medians of {given.rounds} alternating rounds\n")
    print("| side | ms an image | of predict's time: min - median - max |\n|---|---|---|")
    for name, values in seconds.items():
        print(f"| {name} | {1000 * statistics.median(values) / given.count:.1f} | {ratios(values, seconds[PREDICT])} |")
    parts = [sum(each) for each in zip(seconds[READ], seconds[SQUARE], seconds[NETWORK], strict=True)]
    print(f"\npredict takes {ratios(seconds[PREDICT], parts)} of read + square + network.")


if __name__ == "__main__":
    main()
