"""TIFF files.

A TIFF may say almost anything, and no reader is right about all of it. So its first directory is checked here, tag by
tag, before any pixel is; only the unpacking of LZW, PackBits and JPEG is left to Pillow. Orientation and colour profile
are not applied: pixels are taken as they are stored.
"""

from typing import BinaryIO

import numpy as np

from datasets.images.compositing import on_white
from datasets.images.tiff_directory import Directory, damage
from datasets.images.tiff_jpeg import read_tables
from datasets.images.tiff_layout import (
    ASSOCIATED,
    BLACK_IS_ZERO,
    PALETTE,
    WHITE_IS_ZERO,
    YCBCR,
    Grid,
    Layout,
    read_grid,
    read_layout,
)
from datasets.images.tiff_segments import JPEG, Segments


def decode(file: BinaryIO) -> np.ndarray:
    """Decode the one picture of a TIFF to uint8 RGB [H, W, 3]; the file is read by places, never completely."""
    directory = Directory(file)
    layout = read_layout(directory)
    return to_rgb(layout, _samples(directory, layout, read_grid(directory, layout)), read_palette(directory, layout))


def read_size(file: BinaryIO) -> tuple[int, int]:
    """Read the width and height of a TIFF's one picture; refuse what its first directory shows not to be read."""
    directory = Directory(file)
    layout = read_layout(directory)
    read_grid(directory, layout)
    return layout.width, layout.height


def _samples(directory: Directory, layout: Layout, grid: Grid) -> np.ndarray:
    """Unpack the stored channels to uint8 [height, width, samples], of fewer than 8 bits as they are."""
    planes = layout.samples if layout.is_planar else 1
    samples = layout.samples // planes
    number = grid.across * grid.down
    heights = np.full(number, grid.height)
    if not grid.is_tiled:
        heights[-1] = layout.height - grid.height * (grid.down - 1)
    pixels = []
    for start in range(0, number * planes, number):
        segments = Segments(
            directory=directory,
            compression=layout.compression,
            is_reversed=layout.is_reversed,
            row_bytes=-(-grid.width * samples * layout.bits // 8),
            heights=heights,
            full_height=grid.height,
            offsets=grid.offsets[start : start + number],
            counts=grid.counts[start : start + number],
            samples=samples,
            is_ycbcr=layout.photometric == YCBCR,
            tables=read_tables(directory) if layout.compression == JPEG else b"",
        )
        rows = undo_predictor(segments.unpack(), layout, samples)
        if grid.is_tiled:
            rows = rows.reshape(grid.down, grid.across, grid.height, -1).swapaxes(1, 2)
        rows = whole_numbers(rows.reshape(grid.down * grid.height if grid.is_tiled else layout.height, -1), layout.bits)
        pixels.append(rows.reshape(len(rows), -1, samples)[: layout.height, : layout.width])
    return pixels[0] if planes == 1 else np.concatenate(pixels, axis=2)


def undo_predictor(rows: np.ndarray, layout: Layout, samples: int) -> np.ndarray:
    """Sum up pixels that are stored as differences, in place: uint8 [rows, bytes], of these many samples a pixel."""
    if layout.predictor == 2:
        differences = rows.reshape(len(rows), -1, samples)
        np.add.accumulate(differences, axis=1, dtype=np.uint8, out=differences)
    return rows


def whole_numbers(rows: np.ndarray, bits: int) -> np.ndarray:
    """Split bytes into the numbers of 1, 2 or 4 bits that they hold, the first in the highest bits."""
    if bits == 8:
        return rows
    shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
    return ((rows[..., None] >> shifts) & np.uint8(2**bits - 1)).reshape(len(rows), -1)


def to_rgb(layout: Layout, pixels: np.ndarray, palette: np.ndarray | None) -> np.ndarray:
    """Turn the stored channels into RGB."""
    colours = pixels[..., :-1] if layout.alpha else pixels
    if layout.photometric == PALETTE:
        colours = palette[colours[..., 0]]
    elif layout.photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO):
        grey = colours * np.uint8(255 // (2**layout.bits - 1))
        colours = np.repeat(255 - grey if layout.photometric == WHITE_IS_ZERO else grey, 3, axis=2)
    if not layout.alpha:
        return np.ascontiguousarray(colours)
    laid = np.empty(colours.shape, np.uint8)
    for start in range(0, len(laid), 256):  # the numbers between take several times the memory
        part = slice(start, start + 256)
        alpha = pixels[part, :, -1]
        if layout.alpha == ASSOCIATED:  # alpha is in the colours already
            laid[part] = np.minimum(colours[part] + (255 - alpha[..., None]).astype(np.uint16), 255)
        else:
            laid[part] = on_white(colours[part], alpha)
    return laid


def read_palette(directory: Directory, layout: Layout) -> np.ndarray | None:
    """Read the palette as uint8 [2 ** bits, 3]; None of a picture that has none."""
    if layout.photometric != PALETTE:
        return None
    size = 3 * 2**layout.bits
    if directory.count(320) != size:
        raise damage(f"its palette has {directory.count(320):,} values, where {size} are needed")
    # The numbers are of 16 bits. Some programs write them of 8, which as 16 would all be black.
    entries = directory.numbers(320, size)
    return (entries if entries.max() < 256 else entries // 256).astype(np.uint8).reshape(3, -1).T
