"""The names of configurations: those of the catalogue, ``own-NAME`` of a user's own images, and joins of both by ``+``.

Imports nothing heavy: the command line reads names before anything else.
"""

from datasets.errors import UserError
from datasets.own.names import is_own

KNOWN = ("bach", "bisque", "bach_bisque", "phantom")
JOIN = "+"

# Synthetic images say nothing about tissue, so they join no real ones.
_ALONE = "phantom"
# A run folder is named by its configuration, and a folder's name has at most 255 bytes.
_LONGEST = 150


def parts_of(config: str) -> tuple[str, ...]:
    """Return the configurations that a name joins, each of which is prepared by itself, in one order however given.

    Refuses a name that there cannot be, and a join whose parts share images.
    """
    parts = config.split(JOIN)
    unknown = next((part for part in parts if part not in KNOWN and not is_own(part)), None)
    if unknown is not None:
        of = f" in {config!r}" if len(parts) > 1 else ""
        raise UserError(
            f"There is no config {unknown!r}{of}: choose {', '.join(KNOWN)}, own-NAME for your own images (NAME of at "
            "most 40 small letters, digits, - and _), or several joined by +, such as bach+own-NAME."
        )
    repeated = next((part for part in parts if parts.count(part) > 1), None)
    if repeated:
        raise UserError(f"{config} joins {repeated} with itself: name each set once.")
    if "bach_bisque" in parts and (within := {"bach", "bisque"} & set(parts)):
        raise UserError(f"{config} joins bach_bisque with {min(within)}, which it holds already: leave one out.")
    if len(parts) > 1 and _ALONE in parts:
        raise UserError(f"{config} joins phantom with other images, but it is synthetic: use it by itself.")
    if len(config) > _LONGEST:
        raise UserError(f"A join of {len(parts)} sets has a name of {len(config)} letters: at most {_LONGEST} work.")
    return tuple(sorted(parts, key=lambda part: (KNOWN.index(part) if part in KNOWN else len(KNOWN), part)))


def canonical(config: str) -> str:
    """Return the one name of a configuration, in whatever order its parts are given."""
    return JOIN.join(parts_of(config))


def named_parts(config: str) -> list[str]:
    """Return the parts that a name from outside joins, whether there can be such or not."""
    return config.split(JOIN)


def own_parts(config: str) -> list[str]:
    """Return those parts of a name from outside that are a user's own images."""
    return [part for part in named_parts(config) if is_own(part)]
