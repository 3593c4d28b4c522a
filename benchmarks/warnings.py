"""What the warnings catch, and how often they are false: ``python -m benchmarks.warnings [--bisque DIR]``.

Images are phantoms, or BISQUE's with ``--bisque``. In turns, some patients' images give the ranges, as an export's
training images do, and the others are judged: as they are, which gives the false alarms, and with something planted.
With ``--model`` an export's own ranges judge all images, ``features`` included. Intervals are by patient.
"""

import argparse
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

NAMES = ("blur", "tissue", "stain", "features", "scale")


# Each of these makes another image of an image, uint8 [H, W, 3].
def blurred(deviation):
    from scipy.ndimage import gaussian_filter

    return lambda pixels: gaussian_filter(pixels, (deviation, deviation, 0))


def as_jpeg(quality):
    def encoded(pixels):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
        return np.asarray(Image.open(buffer))

    return encoded


def restained(matrix):
    """Give haematoxylin and eosin, unmixed by Macenko's reference, other optical densities: two rows of three."""
    from datasets.stain import LIGHT, MACENKO_STAINS

    def mixed(pixels):
        density = -np.log((pixels + 1.0) / LIGHT)
        found = np.maximum(density @ np.linalg.pinv(MACENKO_STAINS), 0) @ np.array(matrix)
        return np.clip(LIGHT * np.exp(-found) - 1, 0, 255).round().astype(np.uint8)

    return mixed


def lit(*gains):
    return lambda pixels: np.clip(pixels * np.array(gains), 0, 255).round().astype(np.uint8)


def enlarged(times):
    """Show the central part ``times`` as large, as a stronger lens does; below 1, mirror what is around it."""

    def made(pixels):
        height, width = pixels.shape[:2]
        if times > 1:
            high, wide = round(height / times), round(width / times)
            top, left = (height - high) // 2, (width - wide) // 2
            return np.asarray(Image.fromarray(pixels[top : top + high, left : left + wide]).resize((width, height)))
        small = np.asarray(Image.fromarray(pixels).resize((round(width * times), round(height * times))))
        spare = [(height - small.shape[0]) // 2 + 1, (width - small.shape[1]) // 2 + 1]
        return np.pad(small, [*((each, each) for each in spare), (0, 0)], mode="symmetric")[:height, :width]

    return made


HAEMATOXYLIN, EOSIN, DAB = (0.5626, 0.7201, 0.4062), (0.2159, 0.8012, 0.5581), (0.27, 0.57, 0.78)
PLANTED: dict[str, Callable] = {
    "as they are": lambda pixels: pixels,
    "JPEG of quality 90": as_jpeg(90),
    "JPEG of quality 60": as_jpeg(60),
    "blur, deviation 1 pixel": blurred(1),
    "blur, 2 pixels": blurred(2),
    "blur, 4 pixels": blurred(4),
    "stain: DAB for eosin": restained((HAEMATOXYLIN, DAB)),
    "stain: haematoxylin alone": restained((HAEMATOXYLIN, (0, 0, 0))),
    "stain: both half as strong": restained((np.multiply(HAEMATOXYLIN, 0.5), np.multiply(EOSIN, 0.5))),
    "stain: both twice as strong": restained((np.multiply(HAEMATOXYLIN, 2), np.multiply(EOSIN, 2))),
    "light: yellow": lit(1, 0.95, 0.7),
    "light: dark": lit(0.6, 0.6, 0.6),
    "grey": lambda pixels: np.repeat(np.asarray(Image.fromarray(pixels).convert("L"))[..., None], 3, axis=2),
    "twice as large": enlarged(2),
    "four times as large": enlarged(4),
    "half as large": enlarged(0.5),
}
# What of these a file says by its micrometres a pixel, if it does: planted, relative to the image's own.
TAGGED = {"twice as large": 0.5, "four times as large": 0.25, "half as large": 2.0}


def photographs(height, width, count) -> list[np.ndarray]:
    """Draw pictures of no tissue: plains and gradients, text, noise, landscapes, windows on a screen."""
    draws = np.random.default_rng(0)
    return [_KINDS[number % len(_KINDS)](draws, height, width) for number in range(count)]


def _gradient(draws, height, width):
    ends = draws.integers(0, 256, (2, 3))
    share = np.linspace(0, 1, height)[:, None, None] * np.ones((1, width, 1))
    return (ends[0] * (1 - share) + ends[1] * share).astype(np.uint8)


def _text(draws, height, width):
    picture = Image.new("RGB", (width, height), "white")
    letters = list("abcdefghijklmnopqrstuvwxyz     ")
    lines = ("".join(draws.choice(letters, width // 6)) for _ in range(height // 12))
    ImageDraw.Draw(picture).multiline_text((4, 4), "\n".join(lines), fill="black", spacing=1)
    return np.asarray(picture)


def _noise(draws, height, width):
    return draws.integers(0, 256, (height, width, 3)).astype(np.uint8)


def _landscape(draws, height, width):
    from scipy.ndimage import gaussian_filter

    hills = height * (0.5 + 0.1 * np.cumsum(draws.normal(0, 0.05, (3, width)), axis=1) + 0.12 * np.arange(3)[:, None])
    rows = np.arange(height)[:, None]
    picture = np.array((110, 160, 230)) + rows[..., None] * np.array((0.2, 0.15, 0.05)) * 288 / height
    picture = np.broadcast_to(picture, (height, width, 3)).copy()
    for hill, colour in zip(hills, ((90, 130, 80), (60, 110, 50), (80, 90, 40)), strict=True):
        leaves = gaussian_filter(draws.normal(0, 60, (height, width)), 1.5)
        picture = np.where((rows > hill)[..., None], np.array(colour) + leaves[..., None], picture)
    return np.clip(picture, 0, 255).astype(np.uint8)


def _screen(draws, height, width):
    picture = Image.new("RGB", (width, height), (236, 239, 244))
    draw = ImageDraw.Draw(picture)
    for _ in range(12):
        left, top = draws.integers(0, width * 3 // 4), draws.integers(0, height * 3 // 4)
        draw.rectangle((left, top, left + width // 3, top + height // 4), tuple(draws.integers(0, 256, 3)), "black")
        draw.text((left + 4, top + 4), "File  Edit  View  Help", fill="white")
    return np.asarray(picture)


_KINDS = (_gradient, _text, _noise, _landscape, _screen)


class Judged:
    """Warning name -> for each judged image whether it has the warning; and the images' patients."""

    def __init__(self):
        self.names, self.patients = [], []

    def add(self, found, patient):
        self.names.append({each["name"] for each in found})
        self.patients.append(patient)

    def line(self, title) -> str:
        from bach_keras.evidence.intervals import accuracy_interval

        any_of = [bool(names) for names in self.names]
        low, high = accuracy_interval(any_of, self.patients)
        each = " | ".join(f"{np.mean([name in names for names in self.names]):.2f}" for name in NAMES)
        return f"| {title} | {len(any_of)} | {np.mean(any_of):.2f} | {low:.2f} to {high:.2f} | {each} |"


def trial(images, patients, um_per_pixel, export, folds) -> dict[str, Judged]:
    """Judge images by an export's ranges, or else each part of the patients by ranges from the others' images."""
    from bach_keras.evidence.ranges import fit, warnings

    order = sorted(set(patients))
    part = np.array([order.index(patient) % folds for patient in patients])
    made = {name: look([change(each) for each in images], um_per_pixel, export) for name, change in PLANTED.items()}
    for name, zoom in TAGGED.items() if um_per_pixel else ():
        scale = um_per_pixel * zoom
        tagged = look([PLANTED[name](each) for each in images], scale, export, um_per_pixel)
        said = {"scale": {"value": scale, "source": "planted"}}
        made[f"{name}, and its file says so"] = [each | said for each in tagged]
    shown = look(photographs(*images[0].shape[:2], 100), um_per_pixel, export)
    plain, found = made["as they are"], {name: Judged() for name in [*made, "pictures of no tissue"]}
    for place in range(folds):
        known = np.flatnonzero(part != place)
        ranges = export.ranges if export else fit([plain[at] for at in known], [patients[at] for at in known])
        for at in np.flatnonzero(part == place):
            for name, each in made.items():
                found[name].add(warnings(each[at], ranges), patients[at])
        for at in range(place, len(shown), folds):
            found["pictures of no tissue"].add(warnings(shown[at], ranges), f"picture {at}")
    return found


def look(images, um_per_pixel, export, usual=None) -> list[dict]:
    """Measure images as ``predict`` does; ``usual`` is the scale of training, if it is another."""
    from bach_keras.evidence.quality import measures, scale_of_blur

    usual = usual or um_per_pixel
    found = [
        measures(each, um_per_pixel, scale_of_blur(usual)) | {"um_per_pixel": usual, "side": min(each.shape[:2])}
        for each in images
    ]
    for start in range(0, len(images) if export else 0, 16):
        squares = [export.prepared(each) for each in images[start : start + 16]]
        far = np.asarray(export.classify(squares)["distance"]).tolist()
        for at, distance in enumerate(far, start):
            found[at]["features"] = distance
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bisque", type=Path, help="the folder of BISQUE's images, in place of phantoms")
    parser.add_argument("--model", help="an export, whose ranges judge")
    parser.add_argument("--patients", type=int, default=80, help="of the phantoms, two images each (80)")
    parser.add_argument("--folds", type=int, default=10, help="parts of the patients, without a model (10)")
    given = parser.parse_args()
    from datasets import phantom
    from datasets.catalogue import SCALES
    from datasets.images.read import read_rgb
    from datasets.labels import CLASSES

    if given.bisque:
        paths = sorted(given.bisque.glob("*.tif"))
        images, patients = [read_rgb(path) for path in paths], ["_".join(path.name.split("_")[:2]) for path in paths]
        scale = SCALES["bisque"]
    else:
        # Of patients that no data set has, so that no model trained on them.
        fresh = range(phantom.PATIENTS, phantom.PATIENTS + given.patients)
        both = [(patient, index) for patient in fresh for index in range(2)]
        images = [phantom.draw(CLASSES[patient % 4], patient, index) for patient, index in both]
        patients, scale = [f"p{patient:03d}" for patient, _ in both], SCALES["phantom"]
    export = None
    if given.model:
        from bach_keras.serving.exported import Export

        export = Export(given.model)
    folds = 1 if export else given.folds
    found = trial(images, patients, scale, export, folds)
    by = f"by the ranges of {given.model}" if export else f"in {folds} parts, each by the ranges of the others"
    print(f"{len(images)} images of {len(set(patients))} patients or arrays, {by}\n")
    print(f"| planted | n | a warning | 95 % interval | {' | '.join(NAMES)} |\n|{'---|' * (4 + len(NAMES))}")
    for name, judged in found.items():
        print(judged.line(name))


if __name__ == "__main__":
    main()
