"""A slide in a scanner's own format, read by openslide in processes apart: one for each thread that reads."""

import importlib.util
import math
import os
from pathlib import Path

import numpy as np

from datasets.apart.pool import AbsentError, Pool, RefusedError
from datasets.errors import UserError
from datasets.images.admission import NotTakenError
from datasets.images.compositing import on_white
from datasets.images.scale import absurd, plausible
from datasets.slides.limits import check_segment, check_size
from datasets.slides.slide import Level, Window, choose_level, window_of


class OpenSlideSlide:
    """A slide that openslide reads; ``NotTakenError`` for one that it does not."""

    def __init__(self, path: Path, kind: str):
        self.path = path
        self._place = os.fsencode(path.absolute())
        self._pool = Pool()
        try:
            said, size, downsamples = self._open(kind)
            _check_tiles(said, len(downsamples))
            # Much of some scanners' slides is empty; QuPath, too, counts from the corner of what is there.
            self._corner = (_whole(said, "openslide.bounds-x", 0), _whole(said, "openslide.bounds-y", 0))
            width, height = (
                _whole(said, "openslide.bounds-width", size[0]),
                _whole(said, "openslide.bounds-height", size[1]),
            )
            check_size(width, height)
            self.levels = tuple(
                Level(max(1, round(width / downsample)), max(1, round(height / downsample)), downsample)
                for downsample in downsamples
            )
            across, down = (_number(said, f"openslide.mpp-{axis}") for axis in "xy")
            self.scale = plausible(across, down, "openslide.mpp-x")
            self.absurd_scale = absurd(across, down, "openslide.mpp-x")
            self.series = said.get("dicom.SeriesInstanceUID")
        except BaseException:
            self._pool.close()
            raise

    def read(self, x: int, y: int, width: int, height: int, downsample: float = 1.0) -> np.ndarray:
        """Do what ``Slide.read`` says."""
        number = choose_level(self.levels, downsample)
        level = self.levels[number]
        window = window_of(level, Window(x, y, width, height))
        place = (
            round(window.x * level.downsample) + self._corner[0],
            round(window.y * level.downsample) + self._corner[1],
        )
        size = {"size": [window.width, window.height]}
        exactly = 4 * window.width * window.height
        try:
            _, data = self._pool.ask("window", self._place, exactly=exactly, place=place, level=number, **size)
        except (RefusedError, NotTakenError) as error:
            reason = error if isinstance(error, NotTakenError) else f"cannot be read by openslide ({error})"
            where = f"the window of {width}x{height} pixels at x {x}, y {y}"
            raise UserError(f"{self.path} {reason}; this is about {where}.") from None
        pixels = np.frombuffer(data, np.uint8).reshape(window.height, window.width, 4)
        return on_white(pixels[..., :3], pixels[..., 3])

    def __enter__(self) -> "OpenSlideSlide":
        return self

    def __exit__(self, *exception) -> None:
        self._pool.close()

    def _open(self, kind: str) -> tuple[dict, list[int], list[float]]:
        """Return the properties, the size and the downsamples of the levels."""
        if importlib.util.find_spec("openslide") is None:
            raise _absent(kind)
        try:
            said, _ = self._pool.ask("slide", self._place, exactly=0)
        except AbsentError:
            raise _absent(kind) from None
        except RefusedError as error:
            raise NotTakenError(f"cannot be read by openslide ({error})") from None
        if said.get("is_known"):
            return _checked(said)
        if self.path.suffix.lower() == ".mrxs" and not self.path.with_suffix("").is_dir():
            raise NotTakenError(f"is {kind} without its data: the folder {self.path.stem} belongs beside it")
        raise NotTakenError(f"seems to be {kind}, but openslide does not recognise it")


def _checked(said: dict) -> tuple[dict, list[int], list[float]]:
    """Return the properties, the size and the downsamples of an answer; one by a process taken over may be anything."""
    properties, size, downsamples = (said.get(name) for name in ("properties", "size", "downsamples"))
    is_sound = (
        isinstance(properties, dict)
        and all(isinstance(value, str) for value in properties.values())
        and isinstance(size, list)
        and [type(value) for value in size] == [int, int]
        and isinstance(downsamples, list)
        and all(isinstance(value, float) and 1 <= value < math.inf for value in downsamples)
    )
    if not is_sound or not downsamples:
        raise NotTakenError("misled the process that opened it: it is damaged, or made to do harm")
    return properties, size, downsamples


def _absent(kind: str) -> NotTakenError:
    return NotTakenError(f"is {kind}, which is read by openslide: pip install -r requirements-slides.txt")


def _check_tiles(said: dict, levels: int) -> None:
    """Refuse tiles that are too large; of MIRAX slides, whose tiles overlap, openslide does not say the size."""
    for number in range(levels):
        check_segment(
            *(_whole(said, f"openslide.level[{number}].tile-{side}", 1) for side in ("width", "height")), "tiles"
        )
    for name in [name for name in said if name.startswith("mirax.") and name.endswith(".DIGITIZER_WIDTH")]:
        check_segment(*(_whole(said, name.replace("WIDTH", side), 1) for side in ("WIDTH", "HEIGHT")), "tiles")


def _number(said: dict, name: str) -> float:
    try:
        return float(said[name])
    except (KeyError, ValueError):
        return math.nan


def _whole(said: dict, name: str, default: int) -> int:
    value = _number(said, name)
    return int(value) if math.isfinite(value) else default
