"""Encoding images as the records' PNG, compared with Pillow: ``python -m benchmarks.png DIR``.

DIR holds real images. They are encoded as they are, and made as large as BACH's, with the noise that enlarging took
from them. Milliseconds of processor time of an image; the sides alternate. Decoding is TensorFlow's, as training reads.
"""

import argparse
import io
import statistics
import time
from pathlib import Path

import numpy as np
from PIL import Image

BACH = (2048, 1536)
NOISE = 3  # its deviation, in grey levels


def pillow(pixels):
    """Pillow's fastest compression of a photograph."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def enlarged(pixels, rng):
    """Cut to BACH's shape, enlarge, and add noise."""
    height, width, _ = pixels.shape
    tall = min(height, width * BACH[1] // BACH[0])
    image = Image.fromarray(pixels).crop((0, 0, tall * BACH[0] // BACH[1], tall)).resize(BACH, Image.Resampling.BICUBIC)
    return (np.asarray(image) + rng.normal(0, NOISE, (*BACH[::-1], 3))).clip(0, 255).astype(np.uint8)


def measure(images):
    """Return side -> (ms to encode, ms to decode, bytes) of each image; refuse pixels that differ."""
    import tensorflow as tf

    from datasets.images import png

    sides = {"ours": png.encode, "Pillow": pillow}
    found = {side: [] for side in sides}
    for pixels in images:
        for side, encode in sides.items():
            begin = time.process_time()
            data = encode(pixels)
            between = time.process_time()
            decoded = tf.io.decode_png(data, channels=3).numpy()
            end = time.process_time()
            if not np.array_equal(decoded, pixels):
                raise SystemExit(f"{side} changed pixels.")
            found[side].append((1000 * (between - begin), 1000 * (end - between), len(data)))
    return found


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()

    from datasets.images.folder import find_images
    from datasets.images.read import read_rgb

    paths = find_images([given.folder])
    few = paths[:: max(len(paths) // 8, 1)]
    measure([read_rgb(paths[0])])  # the first decoding also starts TensorFlow's threads
    print("| images | encode, ms: ours | Pillow | ours / Pillow | decode, ms: ours | Pillow | MB: ours | Pillow |")
    print("|---|---|---|---|---|---|---|---|")
    for name, images in (
        ("as they are", (read_rgb(path) for _ in range(given.rounds) for path in paths)),
        (
            f"{BACH[0]}x{BACH[1]}",
            (enlarged(read_rgb(path), np.random.default_rng(0)) for _ in range(given.rounds) for path in few),
        ),
    ):
        found = measure(images)
        ours, peer = ([statistics.median(values) for values in zip(*found[side], strict=True)] for side in found)
        print(
            f"| {name} | {ours[0]:.1f} | {peer[0]:.1f} | **{ours[0] / peer[0]:.2f}** | {ours[1]:.1f} | {peer[1]:.1f} | "
            f"{ours[2] / 1e6:.2f} | {peer[2] / 1e6:.2f} |"
        )


if __name__ == "__main__":
    main()
