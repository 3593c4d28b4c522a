"""Synthetic H&E breast tissue of the four classes: the data that needs no download.

A phantom is painted in optical density, where stains add up: one map of haematoxylin, one of eosin.
Two stain vectors and the Beer-Lambert law turn them into colour (Ruifrok & Johnston, "Quantification
of histochemical staining by color deconvolution", 2001). The classes differ in the architecture of the
tissue alone. Colour and magnification are marks of the patient, as on real slides, so a split that
puts one patient's images on both sides leaks.
"""

import csv
import re
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.canvas import HEIGHT, WIDTH, Canvas, Shape
from datasets.labels import CLASSES

# Patient n has the class n modulo four, and every image of a patient has the patient's class.
PATIENTS = 224
IMAGES_PER_PATIENT = 5

# Red, green and blue optical density of each pure stain (Ruifrok & Johnston 2001, table 1).
HAEMATOXYLIN = (0.650, 0.704, 0.286)
EOSIN = (0.072, 0.990, 0.105)

# What the canvas takes: (haematoxylin, eosin, fibre).
_LOOSE_STROMA = (10, 30, 60)
_FAT = (0, 4, 0)
_FAT_WALL = (8, 46, 0)
_LUMEN = (0, 3, 0)
_CYTOPLASM = (24, 42, 0)
_WALL = (22, 100, 0)
_HALO = (0, 12, 0)
_NECROSIS = (26, 92, 0)


def filename(label: str, patient: int, index: int) -> str:
    """Return the name of a phantom, e.g. ``phantom-normal-p004-2.png``."""
    return f"phantom-{label}-p{patient:03d}-{index}.png"


def draw_named(name: str) -> np.ndarray:
    """Draw the phantom that ``filename`` gave this name."""
    found = re.fullmatch(r"phantom-([a-z]+)-p(\d{3})-(\d+)\.png", name)
    if not found:
        raise ValueError(f"{name!r} is not the name of a phantom, such as {filename('normal', 4, 2)}.")
    return draw(found[1], int(found[2]), int(found[3]))


def draw(label: str, patient: int, index: int, seed: int = 0) -> np.ndarray:
    """Draw one image, uint8 RGB [288, 384, 3]; the same arguments give the same bytes.

    The patient sets the stains, their strength and the magnification; another seed gives another population.
    """
    slide, rng, canvas = _painted(label, patient, index, seed)
    return _stain(canvas, slide, rng)


def draw_with_structure(label: str, patient: int, index: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw the image that ``draw`` does, and say where the structure lies that makes its class, bool [288, 384].

    That is all of the epithelium with what belongs to it: glands and lobules of normal tissue, the crowded glands of
    benign, ducts with their walls of in situ, nests and files of cells of invasive. The rest is the ground, stroma with
    fat and fibroblasts, which all classes share. Both nodes on an image's path answer by the same structure.
    """
    slide, rng, canvas = _painted(label, patient, index, seed)
    return _stain(canvas, slide, rng), canvas.structure()


def _painted(label, patient, index, seed):
    """Return the randomness of the patient and of the image, and the canvas as the painter of the label leaves it."""
    if label not in _PAINTERS:
        raise ValueError(f"There is no phantom of {label!r}: choose one of {', '.join(CLASSES)}.")
    slide = np.random.default_rng([seed, patient])
    rng = np.random.default_rng([seed, patient, index])
    # The scale and the stains are the patient's; a smaller jitter is the image's.
    canvas = Canvas(rng, scale=slide.uniform(0.88, 1.16) * rng.uniform(0.97, 1.03))
    _PAINTERS[label](canvas)
    return slide, rng, canvas


def _stain(canvas: Canvas, slide: np.random.Generator, rng: np.random.Generator) -> np.ndarray:
    """Turn the painted amounts into colour with the patient's stains."""
    density = np.zeros((3, HEIGHT, WIDTH), np.float32)
    stains = zip(canvas.amounts(), (HAEMATOXYLIN, EOSIN), (0.30, 0.36), strict=True)
    for amount, vector, usual in stains:
        tilted = np.abs(vector + slide.normal(0, 0.05, 3))
        tilted /= np.linalg.norm(tilted)
        # A laboratory stains to a wanted depth, whatever the tissue: without this pull towards
        # the usual mean, the mean colour of an image would give its class away.
        wanted = usual * np.exp(slide.uniform(-0.42, 0.42) + rng.normal(0, 0.05))
        strength = (wanted / amount.mean()) ** 0.9
        density += (strength * tilted).astype(np.float32)[:, None, None] * amount
    lamp = (255 * (1 - np.abs(slide.normal(0, 0.02, 3)))).astype(np.float32)
    grain = rng.standard_normal((HEIGHT, WIDTH), np.float32) * 1.5
    colour = lamp[:, None, None] * np.exp(-density) + grain
    return np.ascontiguousarray(colour.clip(0, 255).astype(np.uint8).transpose(1, 2, 0))


def _ground(canvas: Canvas, fat: float, cells: float = 40) -> None:
    """Paint what all classes share: fat over a share of the image, and fibroblasts, thin and along the fibres."""
    if fat:
        points = canvas.lattice(34, jitter=0.3)
        where = points @ np.array([np.cos(canvas.fibre_angle + 1), np.sin(canvas.fibre_angle + 1)])
        for x, y in points[where < np.quantile(where, fat)]:
            cell = canvas.shape((x, y), 17.5, waviness=0.04)
            canvas.fill(cell.outline(18), _FAT_WALL)
            canvas.fill(cell.outline(18, 0.90), _FAT)
    points = canvas.lattice(cells, jitter=0.9)
    angles = canvas.fibre_angle + canvas.rng.normal(0, 0.25, len(points))
    canvas.nuclei(points, 2.0, length=4.5, angle=angles, depth=80)
    canvas.end_ground()


def _gland(canvas: Canvas, shape: Shape, lumen: float, layers: int, nucleus: float) -> None:
    """Paint an open gland: wall, epithelium, regular layers of nuclei along it, lumen."""
    canvas.fill(shape.outline(scale=1.12), _WALL)
    canvas.fill(shape.outline(), _CYTOPLASM)
    canvas.fill(shape.outline(scale=lumen), _LUMEN)
    rings = []
    for layer in range(layers):
        scale = 1 - (1 - lumen) * (layer + 0.5) / layers
        count = max(6, int(shape.length() * scale / (nucleus * 2.5 * canvas.scale)))
        rings.append(shape.outline(count, scale))
    cells = np.concatenate(rings)
    outwards = np.arctan2(cells[:, 1] - shape.y, cells[:, 0] - shape.x)
    canvas.nuclei(cells + canvas.rng.normal(0, 0.4, cells.shape), nucleus, length=1.5, angle=outwards)


def _normal(canvas: Canvas) -> None:
    """Paint a lobule or two of well-spaced open acini, or open ducts, in much stroma and fat."""
    rng = canvas.rng
    _ground(canvas, fat=rng.uniform(0.25, 0.55))
    for x, y in canvas.apart(rng.integers(3, 6), 110):
        if rng.random() < 0.4:  # a duct: one wide lumen
            duct = canvas.shape((x, y), rng.uniform(34, 46), rng.uniform(1, 1.35))
            canvas.fill(duct.outline(scale=1.5), _LOOSE_STROMA)
            _gland(canvas, duct, lumen=0.72, layers=2, nucleus=2.7)
            continue
        lobule = canvas.shape((x, y), rng.uniform(66, 84), rng.uniform(1, 1.2))
        canvas.fill(lobule.outline(), _LOOSE_STROMA)
        acini = canvas.lattice(46, jitter=0.2)
        for acinus in acini[lobule.depth(acini) < 0.85]:
            shape = canvas.shape(acinus, rng.uniform(14, 18), rng.uniform(1, 1.15))
            _gland(canvas, shape, lumen=0.55, layers=1, nucleus=2.7)


def _benign(canvas: Canvas) -> None:
    """Paint crowded glands, back to back, thick with regular cells, each still around a lumen."""
    rng = canvas.rng
    _ground(canvas, fat=rng.choice([0, rng.uniform(0.1, 0.2)]))
    spacing = rng.uniform(48, 60)
    points = canvas.lattice(spacing, jitter=0.3)
    bare = canvas.shape((rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT)), rng.uniform(30, 60))
    for x, y in points[bare.depth(points) > 1]:
        size = spacing * rng.uniform(0.40, 0.50)
        shape = canvas.shape((x, y), size, rng.uniform(1, 1.4), waviness=0.08)
        _gland(canvas, shape, lumen=rng.uniform(0.32, 0.45), layers=2, nucleus=3.0)


def _insitu(canvas: Canvas) -> None:
    """Paint large ducts filled with big nuclei inside an intact smooth wall."""
    rng = canvas.rng
    _ground(canvas, fat=rng.uniform(0.1, 0.4))
    pattern = rng.choice(["solid", "cribriform", "necrotic"])
    for x, y in canvas.apart(rng.integers(3, 6), 116):
        duct = canvas.shape((x, y), rng.uniform(42, 62), rng.uniform(1, 1.25), waviness=0.03)
        canvas.fill(duct.outline(scale=1.14), _HALO)
        canvas.fill(duct.outline(scale=1.06), _WALL)
        canvas.fill(duct.outline(), _CYTOPLASM)
        points = canvas.lattice(9, jitter=0.35)
        depth = duct.depth(points)
        inside = depth < 0.93
        if pattern == "necrotic":
            canvas.fill(duct.outline(scale=0.45), _NECROSIS)
            inside &= depth > 0.48
        canvas.nuclei(points[inside], 3.9, length=1.2, variety=0.18, depth=95)
        if pattern == "cribriform":
            holes = canvas.lattice(26, jitter=0.2)
            for hole in holes[duct.depth(holes) < 0.72]:
                canvas.fill(canvas.shape(hole, rng.uniform(5.5, 7.5)).outline(14), _LUMEN)
        # Flat myoepithelial nuclei lie along the wall.
        ring = duct.outline(int(duct.length() / (13 * canvas.scale)), 1.04)
        along = np.arctan2(ring[:, 1] - duct.y, ring[:, 0] - duct.x) + np.pi / 2
        canvas.nuclei(ring, 2.0, length=3.5, angle=along)


def _invasive(canvas: Canvas) -> None:
    """Paint nests, cords and single cells of uneven nuclei, spread through the stroma with no wall."""
    rng = canvas.rng
    _ground(canvas, fat=rng.choice([0, rng.uniform(0.1, 0.3)]))
    nests = canvas.lattice(rng.uniform(58, 76), jitter=0.7)
    cells = canvas.lattice(9.5, jitter=0.5)
    for x, y in nests[rng.random(len(nests)) < rng.uniform(0.35, 0.6)]:
        radius, stretch = rng.uniform(14, 26), rng.uniform(1.1, 1.9)
        nest = canvas.shape((x, y), radius, stretch, waviness=0.22, harmonics=5, angle=canvas.fibre_angle)
        canvas.fill(nest.outline(), _CYTOPLASM)
        canvas.nuclei(cells[nest.depth(cells) < 0.95], 4.2, length=1.3, variety=0.3, depth=100)
    along = np.array([np.cos(canvas.fibre_angle), np.sin(canvas.fibre_angle)])
    across = along[::-1] * [-1, 1]
    cords = []
    for start in canvas.lattice(rng.uniform(34, 44), jitter=1.0):  # cells in single file between the fibres
        steps = np.arange(rng.integers(1, 8))[:, None] * 9.0 * canvas.scale
        cords.append(start + steps * along + rng.normal(0, 0.0017) * steps**2 * across)
    cords = np.concatenate(cords)
    canvas.nuclei(cords + rng.normal(0, 1.2, cords.shape), 3.9, variety=0.3, angle=canvas.fibre_angle)


_PAINTERS = {"normal": _normal, "benign": _benign, "insitu": _insitu, "invasive": _invasive}


def write_labelled(folder: Path, patients: int, seed: int = 1) -> None:
    """Write phantoms as a user's own images lie: a folder for each label, and labels.csv, which knows the patients.

    Each label has so many patients; a seed other than 0 draws tissue that the data set does not hold.
    """
    rows = []
    for number, label in enumerate(CLASSES):
        (folder / label).mkdir(parents=True, exist_ok=True)
        for patient in range(number, patients * len(CLASSES), len(CLASSES)):
            for index in range(IMAGES_PER_PATIENT):
                name = f"{label}/p{patient:03d}-{index}.png"
                Image.fromarray(draw(label, patient, index, seed)).save(folder / name)
                rows.append((name, label, f"p{patient:03d}"))
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("path", "label", "patient"), *rows])


def main(folder: str, patients: str = "", seed: str = "1") -> None:
    """Write two phantoms of each class, of patients beyond the data set; or labelled ones of so many patients each."""
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    if patients:
        write_labelled(out, int(patients), int(seed))
        return
    for number, label in enumerate(CLASSES):
        for index in range(2):
            patient = PATIENTS + number
            Image.fromarray(draw(label, patient, index)).save(out / filename(label, patient, index))


if __name__ == "__main__":
    main(*sys.argv[1:])
