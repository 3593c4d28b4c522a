"""How many planted copies the leak audit finds, and how many unrelated images it takes for some.

    python -m benchmarks.audit_scores --config bisque

The thresholds of datasets/duplicates/alignment.py lie between what the two score.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from PIL import Image
from scipy.stats import binomtest

from datasets import phantom
from datasets.duplicates.alignment import align
from datasets.duplicates.copies import Sketchbook
from datasets.duplicates.sketch import Sketch

# What another laboratory's haematoxylin and eosin absorb of red, green and blue.
OTHER_STAINS = ((0.55, 0.76, 0.35), (0.17, 0.93, 0.33))
GLASS = (245, 240, 245)


@dataclass(frozen=True)
class Change:
    """What makes a copy of an image, in this order."""

    shift: float = 0.0  # image and copy are windows of one, the copy's further down and right by a share of its sides
    angle: float = 0.0  # degrees against the clock
    scale: float = 1.0
    mirrored: bool = False
    colour: Callable[[np.ndarray], np.ndarray] | None = None
    blur: float = 0.0  # in pixels
    quality: int = 0  # of JPEG, 0 for none


def restain(image: np.ndarray) -> np.ndarray:
    """Stain with other vectors, less haematoxylin and more eosin, and light with a dimmer and yellower lamp."""
    unmix = np.linalg.pinv(np.array([phantom.HAEMATOXYLIN, phantom.EOSIN]))
    amounts = -np.log((image + 1.0) / 256) @ unmix
    density = amounts * [0.7, 1.5] @ np.array(OTHER_STAINS)
    return (np.exp(-density) * [230, 230, 205]).clip(0, 255).astype(np.uint8)


def darken(image: np.ndarray) -> np.ndarray:
    """Dim the lamp by a quarter."""
    return (image * 0.75).astype(np.uint8)


def recompress(image: np.ndarray, quality: int = 30) -> np.ndarray:
    """Save as JPEG and read again."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def windows(image: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Cut two equal windows, the second further down and right by a share of their sides."""
    height, width = (round(side / (1 + share)) for side in image.shape[:2])
    return image[:height, :width], image[-height:, -width:]


def turned(image: np.ndarray, angle: float, scale: float, size: tuple[int, int]) -> np.ndarray:
    """Turn and scale around the centre, on a canvas [width, height] of glass."""
    import cv2

    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2 - 0.5, height / 2 - 0.5), angle, scale)
    matrix[:, 2] += (size[0] - width) / 2, (size[1] - height) / 2
    if scale < 1:  # what is too fine for the new pixels
        image = cv2.GaussianBlur(image, (0, 0), 0.5 * np.sqrt(1 / scale**2 - 1))
    return cv2.warpAffine(image, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT, borderValue=GLASS)


def plant(image: np.ndarray, change: Change) -> tuple[np.ndarray, np.ndarray]:
    """Return an image, uint8 RGB [H, W, 3], or a part of it, and a copy of that."""
    import cv2

    first, second = windows(image, change.shift)
    if change.scale < 1:  # the copy shows more, as at a lower magnification
        height, width = (round(side * change.scale) for side in first.shape[:2])
        top, left = (first.shape[0] - height) // 2, (first.shape[1] - width) // 2
        first = first[top : top + height, left : left + width]
    if change.angle % 90 or change.scale != 1:
        second = turned(second, change.angle, change.scale, first.shape[1::-1])
    else:
        second = np.rot90(second, change.angle // 90)
    second = second[:, ::-1] if change.mirrored else second
    second = change.colour(second) if change.colour else second
    second = cv2.GaussianBlur(second, (0, 0), change.blur) if change.blur else second
    second = recompress(second, change.quality) if change.quality else second
    return np.ascontiguousarray(first), np.ascontiguousarray(second)


PLANTED = {
    "mirrored": Change(mirrored=True),
    "turned by 90 degrees": Change(angle=90),
    "turned by 180": Change(angle=180),
    "turned by 7": Change(angle=7),
    "turned by 30": Change(angle=30),
    "turned by 45": Change(angle=45),
    "turned by 133": Change(angle=133),
    "scaled by 0.75": Change(scale=0.75),
    "scaled by 0.9": Change(scale=0.9),
    "scaled by 1.1": Change(scale=1.1),
    "scaled by 1.35": Change(scale=1.35),
    "turned by 30, scaled by 1.2, mirrored": Change(angle=30, scale=1.2, mirrored=True),
    "turned by 133, scaled by 0.75, mirrored": Change(angle=133, scale=0.75, mirrored=True),
    "shifted by 20 % of its sides": Change(shift=0.2),
    "shifted by 40 %": Change(shift=0.4),
    "shifted by 50 %": Change(shift=0.5),
    "re-stained": Change(colour=restain),
    "dimmed by a quarter": Change(colour=darken),
    "blurred by 2 pixels": Change(blur=2),
    "blurred by 4 pixels": Change(blur=4),
    "JPEG of quality 60": Change(quality=60),
    "JPEG of quality 30": Change(quality=30),
    "shifted by 20 %, turned by 7, scaled by 1.1, mirrored, re-stained, JPEG 60": Change(
        shift=0.2, angle=7, scale=1.1, mirrored=True, colour=restain, quality=60
    ),
    "shifted by 20 %, turned by 133, scaled by 1.2, re-stained, JPEG 60": Change(
        shift=0.2, angle=133, scale=1.2, colour=restain, quality=60
    ),
    "turned by 30, scaled by 0.75, mirrored, re-stained, JPEG 60": Change(
        angle=30, scale=0.75, mirrored=True, colour=restain, quality=60
    ),
    "shifted by 40 %, turned by 90, mirrored, re-stained, JPEG 30": Change(
        shift=0.4, angle=90, mirrored=True, colour=restain, quality=30
    ),
}


def score_planted(images: dict[str, np.ndarray]) -> None:
    """Print for each kind of copy how many are found among all images and copies, and their least correlation."""
    click.echo("| planted copy | found | 95 % interval | least correlation |")
    click.echo("|---|---|---|---|")
    for kind, change in PLANTED.items():
        with Sketchbook() as sketches:
            for name, image in images.items():
                first, second = plant(image, change)
                sketches.add(name, first)
                sketches.add(f"copy of {name}", second)
            copies = sketches.find_copies()
        hits = [copy.correlation for copy in copies if copy.second == f"copy of {copy.first}"]
        low, high = binomtest(len(hits), len(images)).proportion_ci(method="wilson")
        least = f"{min(hits):.2f}" if hits else ""
        click.echo(f"| {kind} | {len(hits)} of {len(images)} | {low:.1%} to {high:.1%} | {least} |")


def score_unrelated(images: dict[str, np.ndarray], groups: dict[str, str]) -> None:
    """Print what images of different patients or arrays score when every two are compared."""
    sketches = {name: Sketch.of(image) for name, image in images.items()}
    names, pairs, scores = list(sketches), 0, []
    for number, name in enumerate(names):
        for other in names[:number]:
            if groups[name] and groups[name] == groups[other]:
                continue
            pairs += 1
            for second in (sketches[other], sketches[other].mirrored):
                found = align(sketches[name], second)
                scores += [(found.correlation, found.matches, found.is_copy)] if found else []
    correlations, matches, copies = np.array(scores or [(0, 0, 0)]).T
    _, high = binomtest(int(copies.sum()), pairs).proportion_ci(method="wilson")
    click.echo(
        f"{pairs} unrelated pairs: keypoints agree on {len(scores)} placements, at most {matches.max():.0f} of them; "
        f"correlation at most {correlations.max():.2f}; taken for copies: {copies.sum():.0f} (at most {high:.2%})"
    )


@click.command()
@click.option("--config", default="phantom", show_default=True)
@click.option("--every", type=click.IntRange(1), default=1, show_default=True, help="Take one image of so many.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where data sets live.")
def main(config, every, data_dir):
    """Print the scores of one config."""
    from bach_keras.preprocess import untuned
    from datasets.bach_bisque.prepared import Prepared

    chosen = Prepared(config, data_dir).records[::every]
    groups = {record.filename: record.group for record in chosen}
    images = {
        record["filename"].decode(): record["image"]
        for record in untuned(Prepared(config, data_dir).load(groups)).as_numpy_iterator()
    }
    score_unrelated(images, groups)
    score_planted(images)


if __name__ == "__main__":
    main()
