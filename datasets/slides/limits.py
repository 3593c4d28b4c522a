"""Which slides are read, whatever their format: sizes that bound memory and time."""

from datasets.images.admission import MAX_RATIO, NotTakenError

# Bytes of RGB that a strip or tile may have. None can be decoded in part, so this bounds memory. Scanners write tiles
# of 240 to 1024 pixels, and the largest that programs offer have 4096: 48 MiB.
MAX_SEGMENT = 64 * 2**20

# The largest area that scanners have, 75 x 25 mm, at 0.1 micrometres a pixel.
_MAX_PIXELS = 750_000 * 250_000

PYRAMID = "vips tiffsave IN.tif OUT.tif --tile --pyramid --bigtiff --compression jpeg"


def check_size(width: int, height: int) -> None:
    """Refuse a slide of no pixels, of more than any has, or of a shape that none has."""
    if width < 1 or height < 1:
        raise NotTakenError(f"has {width}x{height} pixels, so there is nothing to see")
    if width * height > _MAX_PIXELS or max(width, height) > MAX_RATIO * min(width, height):
        raise NotTakenError(f"has {width}x{height} pixels, which no slide has")


def check_segment(width: int, height: int, name: str) -> None:
    """Refuse strips or tiles (``name``) that are too large to be decoded."""
    size = width * height * 3
    if size > MAX_SEGMENT:
        raise NotTakenError(
            f"has {name} of {width}x{height} pixels, which take {size / 2**20:,.0f} MiB each, where at most"
            f" {MAX_SEGMENT / 2**20:.0f} MiB are taken, since one can only be decoded completely: convert it to a tiled"
            f" pyramid, for example by {PYRAMID}"
        )
