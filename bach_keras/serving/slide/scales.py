"""How large the pixels of each slide are: as the user gave it, or else as the slide's file says it."""

import csv
import os
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

    def of(self, slide: Slide) -> Scale:
        """Return the scale of a slide; refused where nobody says it."""
        found = self.every or self.listed.get(os.fspath(slide.path)) or self.listed.get(slide.path.name) or slide.scale
        if found is None and (absurd := slide.absurd_scale):
            raise NotTakenError(
                f"says that a pixel has {absurd.value:g} micrometres ({absurd.source}), as no microscope's has: give "
                f"--um-per-pixel ({_EXAMPLES})"
            )
        if found is None:
            raise NotTakenError(f"does not say how large its pixels are: give --um-per-pixel ({_EXAMPLES})")
        return found


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
            return found
    except FileNotFoundError:
        raise UserError(f"--um-per-pixel {path} is neither a number nor a file: give micrometres of a pixel.") from None
    except csv.Error as error:
        raise UserError(f"{path} is not CSV ({error}).") from error
