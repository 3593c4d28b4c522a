"""What an image's file says beside its pixels: how large they are, and which colours they mean.

An image that is known by a text and not by a ``Path`` has no file.
"""

from dataclasses import asdict
from pathlib import Path

from bach_keras.serving.predict import Extra
from datasets.images import icc, scale
from datasets.images.read import read_rgb

# What is done with a colour profile -> what reads the pixels.
READERS = {"note": read_rgb, "apply": icc.read_srgb}


class PixelSize(Extra):
    """Adds ``um_per_pixel``, with the number's source: as the user gave it, or else by the file; null where unknown."""

    def __init__(self, given: float | None = None):
        self._given = given and scale.Scale(given, "given by --um-per-pixel")

    def of(self, path) -> scale.Scale | None:
        return self._given or (scale.um_per_pixel(path) if isinstance(path, Path) else None)

    def look(self, path, pixels):
        return self.of(path)

    def fields(self, path, row, looked, asked):
        return {"um_per_pixel": asdict(looked) if looked else None}


class ColourProfile(Extra):
    """Adds ``icc``: what the colour profile in the file is called, and whether it was applied; null where none is."""

    def __init__(self, is_applied: bool = False):
        self._is_applied = is_applied

    def look(self, path, pixels):
        found = icc.embedded(path) if isinstance(path, Path) else None
        if found is None or self._is_applied:  # then it fitted the pixels as they were before
            return found and found.name
        return found.said(pixels)

    def fields(self, path, row, looked, asked):
        return {"icc": None if looked is None else {"profile": looked, "applied": self._is_applied}}
