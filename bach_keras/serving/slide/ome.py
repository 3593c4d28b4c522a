"""The maps of a slide as OME-TIFF, which QuPath, Bio-Formats and tifffile read."""

import hashlib
import uuid
from pathlib import Path

import numpy as np

from bach_keras.serving.slide.colours import COLOURS
from bach_keras.serving.slide.pictures import given_carci
from bach_keras.serving.slide.raster import Raster
from bach_keras.serving.slide.tiles import AnsweredSlide
from datasets.escape import for_xml
from datasets.whole import whole

# Of a tile in the file, in pixels of the map; a level whose longer side is no longer than the second is the last.
_TILE, _SMALLEST = 256, 64


def write_ome(path: Path, slide: AnsweredSlide, raster: Raster) -> None:
    """Write a channel of probabilities for each class, float32, as a pyramid; the same answers give the same bytes.

    What was not answered is 0 in every channel, which no answer is, as they sum to 1: many viewers and all that scale
    an image down by themselves spread a NaN over what is beside it, or show it as a value.
    """
    metadata = {
        "axes": "CYX",
        "Name": for_xml(f"{slide.name}: probabilities"),
        "Description": _about(
            slide,
            raster,
            f"Probability of each class on {slide.name}. Where every channel is 0, nothing was answered.",
        ),
        "Channel": {"Name": list(slide.classes), "Color": [_rgba(*COLOURS[name]) for name in slide.classes]},
    }
    _write(path, slide, raster, [np.moveaxis(level, -1, 0) for level in pyramid(raster.probabilities)], metadata)


def write_class_ome(path: Path, slide: AnsweredSlide, raster: Raster) -> None:
    """Write the number of each pixel's class, uint8, as a pyramid: 1 is the first class, 0 where nothing was answered.

    A pixel of a smaller level is one of those that it stands for, as the mean of two classes is not a class.
    """
    legend = ", ".join(f"{number} {name}" for number, name in enumerate(slide.classes, start=1))
    metadata = {
        "axes": "YX",
        "Name": for_xml(f"{slide.name}: classes"),
        "Description": _about(slide, raster, f"Class of each tile on {slide.name}: 0 nothing was answered, {legend}."),
        "Channel": {"Name": ["class"]},
    }
    levels = [(raster.labels + 1).astype(np.uint8)]
    while not _is_last(levels):
        levels.append(levels[-1][::2, ::2])
    _write(path, slide, raster, levels, metadata)


def pyramid(probabilities: np.ndarray) -> list[np.ndarray]:
    """Return levels, each half as wide and high as the one before, of the means of what was answered."""
    levels = [probabilities]
    while not _is_last(levels):
        last = levels[-1]
        padded = np.pad(last, [(0, last.shape[0] % 2), (0, last.shape[1] % 2), (0, 0)])
        sums = sum(padded[row::2, column::2] for row in (0, 1) for column in (0, 1))
        count = sums.sum(axis=-1, keepdims=True)
        levels.append(np.divide(sums, count, out=np.zeros_like(sums), where=count > 0))
    return levels


def _is_last(levels: list[np.ndarray]) -> bool:
    longest = max(levels[-1].shape[:2])
    return longest == 1 or (len(levels) > 1 and longest <= _SMALLEST)


def _about(slide: AnsweredSlide, raster: Raster, what: str) -> str:
    return for_xml(
        f"{what} The pixels of the slide are {slide.scale.value:g} um wide ({slide.scale.source}), those of this map "
        f"{raster.downsample} times as wide. Tiles have {slide.field:g} um a side. {given_carci(slide)}".strip()
    )


def _write(path: Path, slide: AnsweredSlide, raster: Raster, levels: list[np.ndarray], metadata: dict) -> None:
    """Write the levels of a map, each an array with the axes of the metadata."""
    import tifffile

    pixel = slide.scale.value * raster.downsample
    digest = hashlib.sha256(np.ascontiguousarray(levels[0]).tobytes()).hexdigest()
    metadata = metadata | {
        "PhysicalSizeX": pixel,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": pixel,
        "PhysicalSizeYUnit": "µm",
        # One of its own by content, as the library's would be by the time.
        "UUID": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{for_xml(slide.name)} {pixel} {digest}")),
    }
    options = {
        "photometric": "minisblack",
        "compression": "zlib",
        "tile": (_TILE, _TILE),
        "resolutionunit": "CENTIMETER",
    }
    with whole(path) as partial, tifffile.TiffWriter(partial, ome=True) as file:
        for index, level in enumerate(levels):
            more = {"subifds": len(levels) - 1, "metadata": metadata} if index == 0 else {"subfiletype": 1}
            size = pixel * levels[0].shape[-1] / level.shape[-1]  # as viewers take it, by the number of pixels
            file.write(np.ascontiguousarray(level), resolution=(1e4 / size, 1e4 / size), **options, **more)


def _rgba(red: int, green: int, blue: int) -> int:
    """Return a colour as OME-XML has it: the four bytes of RGBA as a signed number."""
    return int.from_bytes(bytes([red, green, blue, 255]), "big", signed=True)
