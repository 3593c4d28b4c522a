"""The leak audit of a prepared data set: near-duplicates across its split, listed and drawn side by side."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bach_keras.preprocess import untuned
from datasets.audit import Pair, find_pairs, write_pairs
from datasets.errors import UserError, working
from datasets.whole import whole

# In pixels: the shorter side of a drawn image, a line of text, its letters, and the gap around an image.
_SIDE, _LINE, _FONT, _GAP = 384, 22, 15, 8
_FRAME = "#00c000"

# Nobody looks at more pairs than these, and the pictures of more would fill memory and disk; pairs.csv lists all.
MOST_DRAWN = 100


def audit(data, out: Path) -> list[Pair]:
    """Compare the images across a split, and write ``pairs.csv`` and ``pair-001.png`` and so on, of those most alike.

    Args:
        data: a ``SplitData``.
        out: the folder to write into. An earlier audit's files there are replaced.

    Returns:
        The pairs, the most alike first.
    """
    split = {name: part for part, names in data.files.items() for name in names}
    if len(set(split.values())) < 2:
        raise UserError(
            f"Protocol {data.protocol} puts every image of {data.config} in one split, so there is nothing to compare: "
            "choose another."
        )
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with working():
        pairs = find_pairs(_read(data, split), split)
        earlier = set(out.glob("pair-[0-9]*.png"))
        drawn = pairs[:MOST_DRAWN]
        if drawn:
            draw_pairs(out, drawn, _read(data, {name for pair in drawn for name in (pair.first, pair.second)}))
        write_pairs(out / "pairs.csv", pairs)
        for picture in earlier - {_picture(out, number) for number in range(1, len(drawn) + 1)}:
            picture.unlink()
    return pairs


def _picture(folder: Path, number: int) -> Path:
    return folder / f"pair-{number:03d}.png"


def _read(data, names):
    for record in untuned(data.images(sorted(names))).as_numpy_iterator():
        yield record["filename"].decode(), record["image"]


def draw_pairs(folder: Path, pairs: list[Pair], images) -> None:
    """Write a picture for each pair: the second turned and scaled as the first, frames around what both show.

    Args:
        folder: where ``pair-001.png`` and so on go, in the order of the pairs.
        pairs: what to draw.
        images: file names and pixels, uint8 RGB [H, W, 3], of every image that the pairs name.
    """
    small, scales = {}, {}
    for name, image in images:
        height, width = image.shape[:2]
        scales[name] = scale = _SIDE / min(height, width)
        size = (round(width * scale), round(height * scale))
        small[name] = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))
    for number, pair in enumerate(pairs, 1):
        # How many drawn pixels of the first are as long as one of the second.
        scale = pair.scale * scales[pair.first] / scales[pair.second]
        place = np.array([pair.right, pair.down]) * scales[pair.first]
        picture = _draw(pair, small[pair.first], *_laid(pair, small[pair.second], scale), place)
        with whole(_picture(folder, number)) as partial:
            picture.save(partial, format="PNG")


def _laid(pair: Pair, image: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Turn, mirror and scale the second image of a pair, on white, and say where its corners come to lie [4, 2]."""
    import cv2

    # In complex numbers, whose imaginary part goes down, so that turning against the clock is by a negative angle.
    axes = scale * np.exp(-1j * np.radians(pair.angle)) * np.array([1, 1j])
    axes = -axes.conj() if pair.mirrored else axes
    height, width = image.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]]) @ axes
    # Pixels' centres are half a pixel from their borders.
    begin = corners.real.min() + 1j * corners.imag.min()
    moved = axes.sum() / 2 - begin - (0.5 + 0.5j)
    matrix = np.array([[*axes.real, moved.real], [*axes.imag, moved.imag]])
    size = [round(float(np.ptp(part))) for part in (corners.real, corners.imag)]
    laid = cv2.warpAffine(image, matrix, size, borderMode=cv2.BORDER_CONSTANT, borderValue=(255, 255, 255))
    corners = corners - begin
    return laid, np.stack([corners.real, corners.imag], axis=1)


def _draw(pair: Pair, first: np.ndarray, second: np.ndarray, corners: np.ndarray, place: np.ndarray) -> Image.Image:
    """Draw both; ``place`` is where the upper left corner of the second lies on the first."""
    import cv2

    height, width = first.shape[:2]
    own = np.array([[0, 0], [width, 0], [width, height], [0, height]])
    both = cv2.intersectConvexConvex(own.astype(np.float32), (corners + place).astype(np.float32))[1]
    both = np.zeros((0, 2)) if both is None else both.reshape(-1, 2)
    if len(both):
        # The last row and column are one less than the border between them and the next.
        both = both - (both - both.min(axis=0)) / np.ptp(both, axis=0)
    panels = [
        _panel(first, f"{pair.first} ({pair.first_split})", both),
        _panel(second, f"{pair.second} ({pair.second_split}), {pair.placed}", both - place),
    ]
    width = sum(panel.width for panel in panels) + 3 * _GAP
    sheet = Image.new("RGB", (width, max(panel.height for panel in panels) + _LINE + _GAP), "white")
    caption = (
        f"correlation {pair.correlation:.3f}, {pair.overlap:.0%} in common, {pair.right} right and {pair.down} down"
    )
    ImageDraw.Draw(sheet).text((_GAP, 2), caption, "black", ImageFont.load_default(_FONT))
    sheet.paste(panels[0], (_GAP, _LINE))
    sheet.paste(panels[1], (panels[0].width + 2 * _GAP, _LINE))
    return sheet


def _panel(image: np.ndarray, title: str, frame: np.ndarray) -> Image.Image:
    """Draw an image under its title, with a frame through points [n, 2]."""
    font = ImageFont.load_default(_FONT)
    height, width = image.shape[:2]
    panel = Image.new("RGB", (max(width, int(font.getlength(title)) + 1), height + _LINE), "white")
    panel.paste(Image.fromarray(np.ascontiguousarray(image)), (0, _LINE))
    pen = ImageDraw.Draw(panel)
    pen.text((0, 2), title, "black", font)
    if len(frame) > 2:
        pen.polygon([(x, y + _LINE) for x, y in frame.round().tolist()], outline=_FRAME, width=3)
    return panel
