"""The colour of each class, in the GeoJSON, the maps and the page of a slide."""

from bach_keras.tree import NODES
from datasets.labels import CLASSES

# Chosen from Okabe and Ito's, Tol's and Brewer's palettes so that any two differ most for people with normal vision and
# with each kind of colour blindness; what is benign is blue, and what is not is orange and red.
_FOUR = dict(zip(CLASSES, ((86, 180, 233), (51, 34, 136), (230, 159, 0), (165, 0, 38)), strict=True))
_OF_CARCI = dict(zip(NODES["carci"].classes, (_FOUR["normal"], _FOUR["invasive"]), strict=True))

# Class -> red, green and blue, 0 to 255.
COLOURS = _FOUR | _OF_CARCI

# Of tiles that could not be answered.
FAILED = (120, 120, 120)


def css(colour: tuple[int, int, int]) -> str:
    """Return a colour as HTML and matplotlib write it."""
    return "#{:02x}{:02x}{:02x}".format(*colour)
