"""One image of a user's, as a folder or a line of a CSV file names it."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Listed:
    """An image that was named, and not opened yet."""

    path: Path
    name: str  # its path below the source's folder, with "/"
    label: str  # as it is written
    place: str  # where it is named, for sentences: the file, or the line of the CSV file
    patient: str = ""  # as it is written, "" where it is unknown
    um_per_pixel: float | None = None  # None where only the file itself may say it

    @classmethod
    def below(cls, root: Path, path: Path, *, label: str) -> "Listed":
        return cls(path, path.relative_to(root).as_posix(), label, str(path))
