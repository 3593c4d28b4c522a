"""How like real tissue the phantoms are, in numbers: python -m benchmarks.phantom_likeness.

Measures each image as training sees it, its shorter side at 288 pixels. Optical densities are natural
logarithms against a lamp of 255.
"""

import itertools
from pathlib import Path

import click
import numpy as np
from PIL import Image

from datasets import phantom
from datasets.labels import CLASSES, LABELS

SIDE = 288
# Macenko et al. 2009: the density below which a pixel is glass, and the percentile of the extreme angles.
GLASS, EXTREME = 0.15, 1
# Peaks of haematoxylin closer than this, in pixels, are one nucleus; half of what makes it up is smoothed away.
NUCLEUS = 5
# Periods, in pixels, between which the spectrum's slope is fitted: from a gland down to half a nucleus.
LONGEST, SHORTEST = 96, 4


def measure(image: np.ndarray) -> dict[str, np.ndarray]:
    """Measure an image, uint8 RGB [H, W, 3]: name -> a number, or three for red, green and blue."""
    density = optical_density(image)
    tissue = density[density.max(axis=2) >= GLASS]
    stains = stain_vectors(tissue)
    haematoxylin, _ = np.moveaxis(density @ np.linalg.pinv(stains), 2, 0)
    nuclei, share = count_nuclei(haematoxylin)
    spread = np.linalg.eigvalsh(np.cov(tissue, rowvar=False))
    return {
        "haematoxylin's vector (red, green, blue)": stains[0],
        "eosin's vector": stains[1],
        "angle between the two, degrees": np.degrees(np.arccos(np.clip(stains[0] @ stains[1], -1, 1))),
        "optical density outside their plane, % of its variance": 100 * spread[0] / spread.sum(),
        "mean optical density (red, green, blue)": density.mean(axis=(0, 1)),
        "its deviation within an image": density.std(axis=(0, 1)),
        "glass, fat and lumen, % of the image": 100 * (1 - len(tissue) / density[..., 0].size),
        "nuclei in 100 x 100 pixels": 1e4 * nuclei / haematoxylin.size,
        "nuclei, % of the image": 100 * share,
        "slope of the power spectrum": spectrum_slope(density.mean(axis=2)),
    }


def optical_density(image: np.ndarray) -> np.ndarray:
    """Return [h, w, 3], the shorter side 288."""
    height, width = image.shape[:2]
    scale = SIDE / min(height, width)
    size = (round(width * scale), round(height * scale))
    small = Image.fromarray(image).resize(size, Image.Resampling.BOX)
    return -np.log((np.asarray(small, np.float64) + 1) / 256)


def stain_vectors(tissue: np.ndarray) -> np.ndarray:
    """Estimate haematoxylin and eosin, unit rows [2, 3], from densities [n, 3] (Macenko et al. 2009)."""
    _, axes = np.linalg.eigh(np.cov(tissue, rowvar=False))
    plane = axes[:, 1:] * np.sign(axes[:, 1:].sum(axis=0))
    on_plane = tissue @ plane
    angles = np.percentile(np.arctan2(on_plane[:, 1], on_plane[:, 0]), (EXTREME, 100 - EXTREME))
    stains = np.stack([np.cos(angles), np.sin(angles)], axis=1) @ plane.T
    return stains[np.argsort(-stains[:, 0])]  # haematoxylin absorbs more red


def count_nuclei(haematoxylin: np.ndarray) -> tuple[int, float]:
    """Count the peaks of haematoxylin [h, w] above Otsu's threshold.

    Returns:
        How many, and the share of the image above the threshold.
    """
    smooth = _windows(_windows(haematoxylin, 3).mean(axis=(2, 3)), 3).mean(axis=(2, 3))
    dark = smooth > otsu(smooth)
    peaks = dark & (smooth == _windows(smooth, NUCLEUS).max(axis=(2, 3)))
    return int(peaks.sum()), float(dark.mean())


def _windows(values: np.ndarray, side: int) -> np.ndarray:
    """Return the square around each pixel [h, w, side, side]."""
    padded = np.pad(values, side // 2, mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, (side, side))


def otsu(values: np.ndarray) -> float:
    """Return the threshold that splits values into two groups of least variance within (Otsu 1979)."""
    counts, edges = np.histogram(values, 256)
    middles = (edges[:-1] + edges[1:]) / 2
    below, sums = counts.cumsum(), (counts * middles).cumsum()
    above = below[-1] - below
    between = below * above * (sums / np.maximum(below, 1) - (sums[-1] - sums) / np.maximum(above, 1)) ** 2
    return float(edges[1:][between.argmax()])


def spectrum_slope(values: np.ndarray) -> float:
    """Fit the exponent of spatial frequency that the power follows, in the central square of [h, w]."""
    top, left = ((size - SIDE) // 2 for size in values.shape)
    square = values[top : top + SIDE, left : left + SIDE]
    window = np.hanning(SIDE)
    power = np.abs(np.fft.fft2((square - square.mean()) * np.outer(window, window))) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(SIDE), np.fft.fftfreq(SIDE)))
    edges = np.geomspace(1 / LONGEST, 1 / SHORTEST, 13)
    rings = [power[(frequency >= low) & (frequency < high)].mean() for low, high in itertools.pairwise(edges)]
    return float(np.polyfit(np.log(np.sqrt(edges[:-1] * edges[1:])), np.log(rings), 1)[0])


def share_between(groups: list[str], values: np.ndarray) -> float:
    """Return the share of the variance of values [n] that lies between groups (one-way analysis of variance)."""
    names, members = np.unique(groups, return_inverse=True)
    counts = np.bincount(members)
    means = np.bincount(members, values) / counts
    within = ((values - means[members]) ** 2).sum() / (len(values) - len(names))
    between = (counts * (means - values.mean()) ** 2).sum() / (len(names) - 1)
    usual = (len(values) - (counts**2).sum() / len(values)) / (len(names) - 1)
    return float(max(0, (between - within) / (between - within + usual * within)))


def measure_config(config: str, data_dir: Path | None) -> dict[str, str]:
    """Return the rows of one config: mean and deviation over its images."""
    from bach_keras.preprocess import untuned
    from datasets.bach_bisque.prepared import Prepared

    measured, labels, groups = [], [], []
    for record in untuned(Prepared(config, data_dir).load()).as_numpy_iterator():
        measured.append(measure(record["image"]))
        labels.append(LABELS[record["label"]])
        groups.append(record["group"].decode())
    values = {name: np.stack([one[name] for one in measured]) for name in measured[0]}
    rows = {"images": str(len(measured))}
    for name, of_images in values.items():
        rows[name] = _mean_and_deviation(of_images)
        if name.startswith("nuclei in"):
            means = [f"{label} {of_images[np.array(labels) == label].mean():.1f}" for label in dict.fromkeys(labels)]
            rows["of these, by label"] = ", ".join(means)
    density = values["mean optical density (red, green, blue)"].mean(axis=1)
    rows["mean optical density: % of the variance that lies between patients or arrays"] = (
        f"{100 * share_between(groups, density):.0f}"
    )
    return rows


def _mean_and_deviation(values: np.ndarray) -> str:
    """Return mean and deviation of [n] or [n, 3] with two or three digits."""
    digits = 2 if values.ndim == 2 or abs(values.mean()) < 5 else 1
    pairs = zip(np.atleast_1d(values.mean(axis=0)), np.atleast_1d(values.std(axis=0)), strict=True)
    return ", ".join(f"{mean:.{digits}f} ± {spread:.{digits}f}" for mean, spread in pairs)


def draw(path: Path) -> None:
    """Write a picture of two phantoms of each class, of patients beyond the data set, at half their size."""
    width, height = phantom.WIDTH // 2, phantom.HEIGHT // 2
    sheet = Image.new("RGB", (len(CLASSES) * (width + 4) - 4, 2 * (height + 4) - 4), "white")
    for column, label in enumerate(CLASSES):
        for row in range(2):
            drawn = Image.fromarray(phantom.draw(label, phantom.PATIENTS + 4 * row + column, 0))
            sheet.paste(drawn.resize((width, height), Image.Resampling.BOX), (column * (width + 4), row * (height + 4)))
    sheet.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


@click.command()
@click.option(
    "--config", "configs", multiple=True, default=("phantom", "bisque"), show_default=True, help="Repeatable."
)
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where data sets live.")
@click.option("--picture", type=click.Path(path_type=Path), help="PNG of phantoms to write as well.")
def main(configs, data_dir, picture):
    """Print the table of docs/phantom.md."""
    if picture is not None:
        draw(picture)
    columns = [measure_config(config, data_dir) for config in configs]
    click.echo(f"| | {' | '.join(configs)} |\n|---|{'---|' * len(configs)}")
    for name in columns[0]:
        click.echo(f"| {name} | {' | '.join(rows[name] for rows in columns)} |")


if __name__ == "__main__":
    main()
