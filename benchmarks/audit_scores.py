"""What planted copies and unrelated images score in the leak audit: python -m benchmarks.audit_scores.

The thresholds of datasets/audit.py lie between the two.
"""

import io
import itertools
from pathlib import Path

import click
import numpy as np
from PIL import Image

from datasets import phantom
from datasets.audit import MAX_DISTANCE, ORIENTATIONS, Structure, compare, correlate, hash_distances, orient

# What another laboratory's haematoxylin and eosin absorb of red, green and blue.
OTHER_STAINS = ((0.55, 0.76, 0.35), (0.17, 0.93, 0.33))
# Unrelated images are compared in detail from this coarse correlation on.
INTERESTING = 0.3


def restain(image: np.ndarray) -> np.ndarray:
    """Stain with other vectors, less haematoxylin and more eosin, and light with a dimmer and yellower lamp."""
    unmix = np.linalg.pinv(np.array([phantom.HAEMATOXYLIN, phantom.EOSIN]))
    amounts = -np.log((image + 1.0) / 256) @ unmix
    density = amounts * [0.7, 1.5] @ np.array(OTHER_STAINS)
    return (np.exp(-density) * [230, 230, 205]).clip(0, 255).astype(np.uint8)


def recompress(image: np.ndarray, quality: int = 30) -> np.ndarray:
    """Save as JPEG and read again."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def windows(image: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Cut two equal windows, the second further down and right by a share of their sides."""
    height, width = (round(side / (1 + share)) for side in image.shape[:2])
    return image[:height, :width], image[-height:, -width:]


def turned_back(image: np.ndarray, orientation: str) -> np.ndarray:
    """Return what ``orient`` brings back to the image."""
    undone = {"turned 90": "turned 270", "turned 270": "turned 90"}.get(orientation, orientation)
    return np.ascontiguousarray(orient(image, undone))


def plant(image: np.ndarray, kind: str, share: float = 0.0) -> tuple[np.ndarray, np.ndarray, str]:
    """Return an image, a copy of it, and the orientation that undoes the copy's.

    Args:
        image: uint8 RGB [H, W, 3].
        kind: ``plain``, ``re-stained``, ``recompressed``, one of ``ORIENTATIONS``, or ``all``: re-stained,
            recompressed, turned and mirrored.
        share: how far the copy is shifted down and right, as a share of its sides.
    """
    first, second = windows(image, share)
    orientation = kind if kind in ORIENTATIONS else "turned 90 and mirrored" if kind == "all" else "as it is"
    if kind in {"re-stained", "all"}:
        second = restain(second)
    if kind in {"recompressed", "all"}:
        second = recompress(second)
    return first, turned_back(second, orientation), orientation


PLANTED = (
    ("re-stained", 0.0), ("recompressed", 0.0), ("mirrored", 0.0), ("plain", 0.1), ("plain", 0.3), ("plain", 0.5),
    ("all", 0.1), ("all", 0.3), ("all", 0.4),
)  # fmt: skip


def score_planted(images: list[np.ndarray]) -> None:
    """Print the worst scores of each kind of copy."""
    click.echo("| planted copy | most bits apart | least coarse correlation | least correlation | found |")
    click.echo("|---|---|---|---|---|")
    for kind, share in PLANTED:
        scores = []
        for image in images:
            first, second, orientation = plant(image, kind, share)
            first, second = Structure.of(first), Structure.of(second)
            coarse, fine = (
                correlate(getattr(first, resolution), orient(getattr(second, resolution), orientation)).correlation
                for resolution in ("coarse", "fine")
            )
            bits = hash_distances(first, second)[ORIENTATIONS.index(orientation)]
            scores.append((bits, coarse, fine, compare(first, second) is not None))
        bits, coarse, fine, found = np.array(scores).T
        shifted = f", shifted by {share:.0%}" if share else ""
        click.echo(
            f"| {kind}{shifted} | {bits.max():.0f} | {coarse.min():.2f} | {fine.min():.2f} "
            f"| {found.sum():.0f} of {len(images)} |"
        )


def score_unrelated(images: list[np.ndarray], groups: list[str]) -> None:
    """Print the best scores of images of different patients or arrays."""
    structures = [Structure.of(image) for image in images]
    pairs, candidates, coarse, fine = 0, 0, [0.0], [0.0]
    for (first, group), (second, other) in itertools.combinations(zip(structures, groups, strict=True), 2):
        if group == other:
            continue
        pairs += 1
        for number in np.flatnonzero(hash_distances(first, second) <= MAX_DISTANCE):
            candidates += 1
            coarse.append(correlate(first.coarse, orient(second.coarse, ORIENTATIONS[number])).correlation)
            if coarse[-1] >= INTERESTING:
                fine.append(correlate(first.fine, orient(second.fine, ORIENTATIONS[number])).correlation)
    proposed = candidates / (pairs * len(ORIENTATIONS))
    click.echo(
        f"{pairs} unrelated pairs: the hash proposes {proposed:.1%} of their orientations; "
        f"coarse correlation at most {max(coarse):.2f}, correlation at most {max(fine):.2f}"
    )


@click.command()
@click.option("--config", default="phantom", show_default=True)
@click.option("--every", type=click.IntRange(1), default=9, show_default=True, help="Take one image of so many.")
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
    score_planted(list(images.values()))
    score_unrelated(list(images.values()), [groups[name] for name in images])


if __name__ == "__main__":
    main()
