"""Which images are accepted, whatever kind of file they come in: by `predict`, by `data prepare`, by an export."""

from datasets.errors import UserError

# Sixteen BACH images; a microscope field is never larger, and a bomb must not be unpacked.
MAX_PIXELS = 50_331_648

# Bytes of a PNG, JPEG or BMP: MAX_PIXELS of four bytes, and 64 MiB of colour profiles, text and previews. A TIFF is
# read by places, and so may be larger.
MAX_BYTES = 4 * MAX_PIXELS + 64 * 2**20

# How many times as long as wide an image may be: its shorter side is scaled to the network's, the longer with it, so
# that a line of pixels in 200 bytes would fill the memory.
MAX_RATIO = 50


class NotTakenError(UserError):
    """An image that is refused: what every decoder and check of this folder raises.

    The message is what follows the file's name in a sentence, without a full stop: "has 3 pages: save ...".
    """


def check_size(width: int, height: int) -> None:
    """Refuse an image of no pixels, of too many, or of a shape that cannot be scaled, before it is decoded."""
    if width < 1 or height < 1:
        raise NotTakenError(f"has {width}x{height} pixels, so there is nothing to see")
    if width * height > MAX_PIXELS:
        raise NotTakenError(f"has {width}x{height} pixels; at most {MAX_PIXELS:,} are taken")
    if max(width, height) > MAX_RATIO * min(width, height):
        raise NotTakenError(f"has {width}x{height} pixels; at most {MAX_RATIO} times as long as wide is taken")
