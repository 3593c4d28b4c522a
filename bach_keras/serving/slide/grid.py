"""Where the tiles of a slide lie."""

from datasets.errors import UserError
from datasets.images.admission import NotTakenError

# Answers are kept in memory until a slide is finished, 2 kB each.
MOST_TILES = 250_000
# Tiles that overlap more are nearly the same tile many times.
MOST_OVERLAP = 0.9


def step_of(side: int, overlap: float) -> int:
    """Return the pixels from a tile to the next."""
    if not 0 <= overlap <= MOST_OVERLAP:  # NaN is in no range
        raise UserError(f"--overlap {overlap:g}: give the share of a tile that the next one shows too, 0 to 0.9.")
    return max(1, round(side * (1 - overlap)))


def starts(length: int, side: int, step: int) -> list[int]:
    """Return where tiles begin along a side of a slide.

    The last one ends where the slide does, so it overlaps the one before by more: all of the slide is seen, and no
    tile is filled up with white, which no training image was.
    """
    found = list(range(0, length - side + 1, step))
    return found if found[-1] + side == length else [*found, length - side]


def grid(width: int, height: int, side: int, step: int) -> list[tuple[int, int]]:
    """Return the top left corners of all tiles as (x, y), row by row; too many are refused."""
    across, down = starts(width, side, step), starts(height, side, step)
    if len(across) * len(down) > MOST_TILES:
        raise NotTakenError(
            f"has {len(across) * len(down):,} tiles; at most {MOST_TILES:,} are taken: let them overlap less, or cut "
            "the slide"
        )
    return [(x, y) for y in down for x in across]
