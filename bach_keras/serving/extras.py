"""What is asked for beside the answers for images, by the command ``predict`` and from Python alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bach_keras.serving.judgement import Judgement, Symmetries
from bach_keras.serving.metadata import ColourProfile, PixelSize
from bach_keras.serving.option_names import Option
from bach_keras.serving.predict import Extra
from bach_keras.serving.views import with_views
from datasets.errors import UserError


@dataclass(frozen=True)
class Asked:
    """The options of ``predict`` that shape its rows."""

    routing: str = "soft"
    views: int | None = None  # None for the model's own
    um_per_pixel: float | None = None
    icc: str = "note"
    explain: Path | None = None
    neighbours: int | None = None
    thumbnails: Path | None = None
    symmetries: bool = False


def check_asked(asked: Asked, is_remote: bool, names=Option) -> None:
    """Refuse options that contradict each other, or that a server cannot answer; ``names`` is of ``option_names``."""
    for option in ("explain", "neighbours"):
        if is_remote and getattr(asked, option) is not None:
            raise UserError(f"{names.named(option)} needs the export itself: {names.export_itself}.")
    if asked.explain is not None and asked.routing != "soft":
        raise UserError(
            f"{names.named('explain')} shows the soft answer's path: leave out {names.named('routing', 'routed')}."
        )
    if asked.neighbours is not None and not (isinstance(asked.neighbours, int) and asked.neighbours > 0):
        raise UserError(f"{names.named('neighbours')} is {asked.neighbours!r}: give how many, from 1.")
    if asked.thumbnails is not None and asked.neighbours is None:
        raise UserError(
            f"{names.named('thumbnails')} is about the nearest training images: ask for them with "
            f"{names.named('neighbours')} K."
        )


def make_extras(export, asked: Asked, paths: Sequence[Path], names=Option) -> list[Extra]:
    """Return what adds to each row what is asked for, once ``check_asked`` has let it pass.

    All is checked before a folder is made.

    Args:
        export: an ``Export`` or a ``Remote``, with its own views.
        paths: the files and folders that are answered for.
    """
    # Pictures need Keras and Matplotlib, which take a second to import.
    if asked.neighbours is not None:
        from bach_keras.serving.neighbours import Neighbours, check_neighbours

        check_neighbours(export, asked.neighbours, paths, asked.thumbnails, names)
    if asked.explain is not None:
        from bach_keras.serving.explain import Pictures, check_explains

        check_explains(export, asked.views, paths, asked.explain, names)
    averaged = with_views(export, asked.views, names)
    symmetries = [Symmetries(averaged, asked.routing)] if asked.symmetries else []
    sizes = PixelSize(asked.um_per_pixel)
    extras = [sizes, ColourProfile(is_applied=asked.icc == "apply")]
    if asked.explain is not None:
        extras.append(Pictures(export, asked.explain))
    if asked.neighbours is not None:
        extras.append(Neighbours(export, asked.neighbours, asked.thumbnails))
    return [*extras, *symmetries, Judgement(export.ranges, sizes.of)]
