"""A slide in a scanner's own format, read by openslide."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np

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
        self._openslide = _library(kind)
        with self._refusing():
            if self._openslide.OpenSlide.detect_format(path) is None:
                if path.suffix.lower() == ".mrxs" and not path.with_suffix("").is_dir():
                    raise NotTakenError(f"is {kind} without its data: the folder {path.stem} belongs beside it")
                raise NotTakenError(f"seems to be {kind}, but openslide does not recognise it")
            self._slide = self._openslide.OpenSlide(path)
        try:
            with self._refusing():
                said = dict(self._slide.properties)
                size, downsamples = self._slide.dimensions, self._slide.level_downsamples
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
        except BaseException:
            self._slide.close()
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
        try:
            region = self._region(place, number, (window.width, window.height))
        except self._openslide.OpenSlideError as error:
            where = f"the window of {width}x{height} pixels at x {x}, y {y}"
            raise UserError(f"{self.path} cannot be read by openslide ({error}); this is about {where}.") from None
        pixels = np.asarray(region)
        return on_white(pixels[..., :3], pixels[..., 3])

    def __enter__(self) -> "OpenSlideSlide":
        return self

    def __exit__(self, *exception) -> None:
        self._slide.close()

    def _region(self, *what):
        try:
            return self._slide.read_region(*what)
        except self._openslide.OpenSlideError:
            # An error makes a handle useless, also to threads that read what is whole: each tries again with a new one.
            fresh = self._openslide.OpenSlide(self.path)
        region = fresh.read_region(*what)
        self._slide = fresh
        return region

    @contextlib.contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except self._openslide.OpenSlideError as error:
            raise NotTakenError(f"cannot be read by openslide ({error})") from None


def _library(kind: str) -> ModuleType:
    try:
        import openslide
    except (ImportError, OSError):  # of the package, and of the library that it loads
        raise NotTakenError(f"is {kind}, which is read by openslide: pip install -r requirements-slides.txt") from None
    return openslide


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
