"""How large the pixels of each slide are: as the user gave it, or else as the slide's file says it."""

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from datasets.errors import UserError
from datasets.images.admission import NotTakenError
from datasets.images.scale import LARGEST, SMALLEST, Scale
from datasets.slides.slide import Slide

_COLUMNS = ("slide", "um_per_pixel")
_EXAMPLES = "40x is about 0.25, 20x about 0.5; BACH's images have 0.42"


@dataclass(frozen=True)
class Scales:
    """What ``--um-per-pixel`` says: one number for all slides, or a list."""

    every: Scale | None = None
    listed: dict[str, Scale] = field(default_factory=dict)  # a slide's name, or its path -> its scale

    @classmethod
    def given(cls, text: str | None) -> "Scales":
        """Take a number, or the name of a CSV file with the columns ``slide`` and ``um_per_pixel``."""
        if text is None:
            return cls()
        try:
            value = float(text)
        except ValueError:
            return cls(listed=_listed(Path(text)))
        return cls(every=Scale(_checked(value, f"--um-per-pixel {text}"), "given by --um-per-pixel"))

    def missing(self, paths: Sequence[Path]) -> str:
        """Return a sentence where a list was given and does not name all of these slides, or ""."""
        names = [path.name for path in paths if self.listed and self._listed(path) is None]
        if not names:
            return ""
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        return f"--um-per-pixel does not list {', '.join(names[:3])}{more}: what the file itself says is taken."

    def _listed(self, path: Path) -> Scale | None:
        return self.listed.get(os.fspath(path)) or self.listed.get(path.name)

    def of(self, slide: Slide) -> Scale:
        """Return the scale of a slide; refused where nobody says it."""
        found = self.every or self._listed(slide.path) or slide.scale
        if found is None and (absurd := slide.absurd_scale):
            raise NotTakenError(
                f"says that a pixel has {absurd.value:g} micrometres ({absurd.source}), as no microscope's has: give "
                f"--um-per-pixel ({_EXAMPLES})"
            )
        if found is None:
            raise NotTakenError(f"does not say how large its pixels are: give --um-per-pixel ({_EXAMPLES})")
        # More digits are those of the division of two numbers that a file holds.
        return Scale(float(f"{found.value:.6g}"), found.source)


NOTHING_GIVEN = Scales()


def _checked(value: float, what: str) -> float:
    if not SMALLEST <= value <= LARGEST:  # NaN is in no range
        raise UserError(
            f"{what} is not a microscope's: give micrometres of a pixel, from {SMALLEST:g} to {LARGEST:g} "
            f"({_EXAMPLES})."
        )
    return value


def _listed(path: Path) -> dict[str, Scale]:
    try:
        if not path.is_file():  # reading a pipe would wait for ever
            raise FileNotFoundError
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            rows = csv.DictReader(file)
            if not set(_COLUMNS) <= set(rows.fieldnames or ()):
                raise UserError(f"{path} needs the columns slide and um_per_pixel in its first line.")
            found = {}
            for row in rows:
                name, text, place = row["slide"], row["um_per_pixel"] or "", f"{path}, line {rows.line_num}"
                try:
                    value = float(text)
                except ValueError:
                    raise UserError(f"{place}: um_per_pixel must be a number, not {text!r}.") from None
                if not name:
                    raise UserError(f"{place}: slide must be the name of a slide's file.")
                if name in found and found[name].value != value:
                    raise UserError(f"{place}: {name} has two values, {found[name].value:g} and {value:g}: keep one.")
                found[name] = Scale(_checked(value, f"{place}: um_per_pixel {text}"), f"given by {path.name}")
            if not found:
                raise UserError(f"{path} lists no slide: write a line for each under slide,um_per_pixel.")
            return found
    except csv.Error as error:
        raise UserError(f"{path} is not CSV ({error}).") from error
    except OSError as error:
        what = (
            "neither a number nor a file" if not path.is_file() else f"not a file that can be read ({error.strerror})"
        )
        raise UserError(f"--um-per-pixel {path} is {what}: give micrometres of a pixel, or a list.") from None
