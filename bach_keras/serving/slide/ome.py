"""The probabilities of a slide as OME-TIFF, which QuPath, Bio-Formats and tifffile read."""

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
    import tifffile

    levels = pyramid(raster.probabilities)
    pixel = slide.scale.value * raster.downsample
    digest = hashlib.sha256(raster.probabilities.tobytes()).hexdigest()
    about = (
        f"Probability of each class on {slide.name}. Where every channel is 0, nothing was answered. The pixels of the "
        f"slide are {slide.scale.value:g} um wide ({slide.scale.source}), those of this map {raster.downsample} times "
        f"as wide. Tiles have {slide.field:g} um a side. {given_carci(slide)}"
    ).strip()
    metadata = {
        "axes": "CYX",
        "Name": for_xml(f"{slide.name}: probabilities"),
        "Description": for_xml(about),
        "Channel": {"Name": list(slide.classes), "Color": [_rgba(*COLOURS[name]) for name in slide.classes]},
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
            size = pixel * levels[0].shape[1] / level.shape[1]  # as viewers take it, by the number of pixels
            file.write(np.moveaxis(level, -1, 0), resolution=(1e4 / size, 1e4 / size), **options, **more)


def pyramid(probabilities: np.ndarray) -> list[np.ndarray]:
    """Return levels, each half as wide and high as the one before, of the means of what was answered."""
    levels = [probabilities]
    while len(levels) < 2 or max(levels[-1].shape[:2]) > _SMALLEST:
        last = levels[-1]
        if max(last.shape[:2]) == 1:
            break
        padded = np.pad(last, [(0, last.shape[0] % 2), (0, last.shape[1] % 2), (0, 0)])
        sums = sum(padded[row::2, column::2] for row in (0, 1) for column in (0, 1))
        count = sums.sum(axis=-1, keepdims=True)
        levels.append(np.divide(sums, count, out=np.zeros_like(sums), where=count > 0))
    return levels


def _rgba(red: int, green: int, blue: int) -> int:
    """Return a colour as OME-XML has it: the four bytes of RGBA as a signed number."""
    return int.from_bytes(bytes([red, green, blue, 255]), "big", signed=True)
