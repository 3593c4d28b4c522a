"""How often does a colour profile change a label: ``python -m benchmarks.icc --model EXPORT IMAGES...``.

Two questions, for profiles like those of cameras and scanners that are planted in the images given:

- *named*: the pixels stay, and the file now says that they are of this profile. How many labels does ``--icc apply``
  change, of those that ``--icc note`` gives?
- *stored*: the picture stays, and its file stores it by this profile, as a scanner may. How many labels are those of
  the picture itself, without and with applying?

Everything goes through files, as in ``predict``. Intervals are of 95 %, by groups: the images whose names differ only
after the last underscore but one are one group, as those of one array in BISQUE.
"""

import argparse
import io
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from bach_keras.packed_kernels import keep_packed_kernels
from benchmarks.profiles import PLANTED


def write(folder, images, profile=None):
    """Write uint8 RGB images with a profile; return the paths."""
    paths = [Path(folder) / f"{number:04d}.png" for number in range(len(images))]
    for path, pixels in zip(paths, images, strict=True):
        Image.fromarray(pixels).save(path, icc_profile=profile, compress_level=1)
    return paths


def stored_by(profile, pixels) -> np.ndarray:
    """Return the numbers by which a profile says the colours that are sRGB here; those that it lacks are clipped."""
    srgb, opened = ImageCms.createProfile("sRGB"), ImageCms.ImageCmsProfile(io.BytesIO(profile))
    made = ImageCms.buildTransform(srgb, opened, "RGB", "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC)
    return np.asarray(made.apply(Image.fromarray(pixels)))


def answered(export, paths, how) -> tuple[list[str], np.ndarray]:
    """Return the labels, and the probabilities [N, classes]."""
    from bach_keras.serving.metadata import READERS
    from bach_keras.serving.predict import predict_files

    rows = list(predict_files(export, paths, read=READERS[how]))
    return [row["label"] for row in rows], np.array([list(row["probabilities"].values()) for row in rows])


def compared(one, other, groups) -> str:
    """Say how many labels of two sets of answers are the same, and how far the probabilities are apart."""
    from bach_keras.evidence.intervals import accuracy_interval

    same = [a == b for a, b in zip(one[0], other[0], strict=True)]
    low, high = accuracy_interval(same, groups)
    moved = np.abs(one[1] - other[1]).max(axis=1)
    return (
        f"{sum(same)} of {len(same)} labels the same ({low:.2f} to {high:.2f}); largest change of a probability: "
        f"median {np.median(moved):.3f}, largest {moved.max():.3f}"
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("images", nargs="+")
    given = parser.parse_args()
    keep_packed_kernels()
    from bach_keras.serving.exported import Export
    from datasets.images.folder import find_images
    from datasets.images.read import read_rgb

    export, found = Export(given.model), find_images(given.images)
    images, groups = [read_rgb(path) for path in found], [path.stem.rsplit("_", 2)[0] for path in found]
    with tempfile.TemporaryDirectory() as folder:
        plain = answered(export, write(folder, images), "note")
        print(
            f"{len(images)} images of {len(set(groups))} groups, {export.side} pixels; "
            + ", ".join(sorted(set(plain[0])))
        )
        for name, profile in PLANTED.items():
            paths = write(folder, images, profile)
            print(f"{name}, named, applied against noted: {compared(answered(export, paths, 'apply'), plain, groups)}")
            paths = write(folder, [stored_by(profile, pixels) for pixels in images], profile)
            for how in ("note", "apply"):
                said = compared(answered(export, paths, how), plain, groups)
                print(f"{name}, stored, {how} against the picture: {said}")


if __name__ == "__main__":
    main()
