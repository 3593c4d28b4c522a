"""Slides answered, one after the other, each in a folder of its own."""

import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bach_keras.serving.slide.agreement import agreement
from bach_keras.serving.slide.answers import Asker
from bach_keras.serving.slide.field import far_from
from bach_keras.serving.slide.grid import grid
from bach_keras.serving.slide.journal import NAME as JOURNAL
from bach_keras.serving.slide.journal import open_journal
from bach_keras.serving.slide.outputs import write_files
from bach_keras.serving.slide.overview import overview
from bach_keras.serving.slide.plan import Asked, Plan, check, different, plan
from bach_keras.serving.slide.quick import ask_quickly
from bach_keras.serving.slide.reading import level_of
from bach_keras.serving.slide.shares import tissue_shares
from bach_keras.serving.slide.summary import NAME as SUMMARY
from bach_keras.serving.slide.summary import SCHEMA, counts, is_whole, read_summary
from bach_keras.serving.slide.tiles import AnsweredSlide, AnsweredTile, Tile
from bach_keras.wording import counted
from datasets.errors import UserError, WorkError, in_words
from datasets.slides.open import open_slide
from datasets.slides.slide import Slide
from datasets.whole import write_json

CONTINUES = "What was answered is kept: the same command continues with it."

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What became of a slide."""

    path: Path
    error: str = ""  # a sentence, where it was refused or not all of it could be answered
    summary: dict | None = None
    was_finished: bool = False  # by an earlier run


def answer_slides(export, paths: Sequence[Path], out: Path, asked: Asked) -> Iterator[Outcome]:
    """Answer for slides by an ``Export``, and yield for each, in order, what became of it.

    A ``UserError`` is raised, and nothing is written, where none of them can be taken.
    """
    field = check(export, paths, asked)
    plans = {path: _planned(export, path, out, field, asked) for path in paths}
    if all(isinstance(each, UserError) for each in plans.values()):
        raise UserError(" ".join(map(str, plans.values())))
    plans = _one_of_each_series(plans)
    for sentence in filter(None, [far_from(export, field), asked.scales.missing(paths)]):
        _log.warning(sentence)
    for each in plans.values():
        if isinstance(each, Plan):
            each.folder.mkdir(parents=True, exist_ok=True)
            for note in each.regions.notes if each.regions else ():
                _log.warning(f"{asked.regions}: {note}")
    for path, each in plans.items():
        if isinstance(each, UserError):
            yield Outcome(path, str(each))
            continue
        try:
            outcome = _finished(each) or _answered(export, each)
        except UserError as error:
            outcome = Outcome(path, str(error))
        except OSError as error:
            raise WorkError(f"{in_words(error).rstrip('.')}. {CONTINUES}") from error
        yield outcome


def _one_of_each_series(plans: dict[Path, Plan | UserError]) -> dict[Path, Plan | UserError]:
    """Leave out all but one file of each slide that is a series of files, as any of them opens the slide."""
    firsts, others, kept = {}, Counter(), {}
    for path, each in plans.items():
        if isinstance(each, Plan) and each.series:
            first = firsts.setdefault((path.parent, each.series), path)
            if first is not path:
                others[first] += 1
                continue
        kept[path] = each
    for first, count in others.items():
        _log.warning(f"{first} and {counted(count, 'file')} beside it are one slide, which is answered once.")
    return kept


def _planned(export, path, out, field, asked) -> Plan | UserError:
    try:
        return plan(export, path, out, field, asked)
    except UserError as error:
        return UserError(str(error))


def _finished(plan: Plan) -> Outcome | None:
    """Return the outcome of a slide whose files are all there, as they were written for these settings."""
    summary = None if plan.asked.overwrites else read_summary(plan.folder)
    if summary is None or not is_whole(plan.folder, summary):
        return None
    (plan.folder / JOURNAL).unlink(missing_ok=True)
    return Outcome(plan.path, _complaint(plan.path, summary), summary, was_finished=True)


def _answered(export, plan: Plan) -> Outcome:
    with open_slide(plan.path) as slide, open_journal(plan.folder, plan.settings) as journal:
        if journal.other:
            others = ", ".join(different(journal.other, plan.settings))
            _log.info(f"{plan.path.name}: starts again, as it was started with other settings ({others})")
        (plan.folder / SUMMARY).unlink(missing_ok=True)  # from now on, and until the end, it is not finished
        asker = Asker(export, slide, journal, plan.asked.routing)
        clock = Clock()
        answered, found = _ask(export, plan, slide, asker, clock)
        summary = _summary(export, plan, answered, found)
        files = write_files(plan.folder, answered, summary, plan.regions)
        clock.note("writing")
        run = {"seconds": clock.seconds, "asked": asker.asked, "answered_before": asker.resumed}
        summary |= {"files": files, "run": run}
        write_json(plan.folder / SUMMARY, summary)  # the last, as it makes the slide finished
        journal.remove()
    return Outcome(plan.path, _complaint(plan.path, summary), summary)


def _ask(export, plan: Plan, slide: Slide, asker: Asker, clock: "Clock") -> tuple[AnsweredSlide, dict]:
    """Answer for the tiles of a slide, and say which were asked, and how."""
    width, height = slide.levels[0].width, slide.levels[0].height
    view = overview(slide, plan.side)
    every = grid(width, height, plan.side, plan.step)
    tiles = [Tile(*corner, plan.side, plan.side, view.tissue_of(*corner, plan.side)) for corner in every]
    inside = [tile for tile in tiles if plan.regions is None or plan.regions.touches(tile)]
    # What could not be read at low magnification may be there at high; if not, its row says so.
    seen = [
        tile for tile in inside if tile.tissue >= plan.asked.tissue or view.is_damaged(tile.minx, tile.miny, plan.side)
    ]
    clock.note("tissue")
    corners = [(tile.minx, tile.miny) for tile in seen]
    _log.info(f"{plan.path.name}: {counted(len(seen), 'tile')} of {len(every)} to answer")
    quick = None
    if plan.asked.is_quick:
        rows, quick = ask_quickly(asker, corners, plan.side, plan.step, (width, height))
    else:
        rows = asker.rows("tiles", corners, plan.side)
    clock.note("tiles")
    answered = AnsweredSlide(
        name=plan.path.name,
        width=width,
        height=height,
        scale=plan.scale,
        field=plan.field.um,
        step=plan.step,
        tiles=tuple(map(AnsweredTile, seen, rows)),
        thumbnail=view.thumbnail(),
    )
    return answered, {
        "level": {"downsample": level_of(slide, plan.side / export.side).downsample, "seen_on": export.side},
        "tissue": {
            "least": plan.asked.tissue,
            "share_of_slide": view.tissue,
            "um_per_pixel": view.downsample * plan.scale.value,
        },
        "tiles": {"all": len(every), "outside": len(every) - len(inside), "background": len(inside) - len(seen)},
        "quick": quick,
    }


def _summary(export, plan: Plan, answered: AnsweredSlide, found: dict) -> dict:
    """Return what summary.json says, but of its files and of the run."""
    number = counts(answered, export.ranges)
    return {
        "schema": SCHEMA,
        "slide": {
            "name": answered.name,
            "width": answered.width,
            "height": answered.height,
            "digest": plan.settings["slide"],
        },
        "um_per_pixel": {"value": plan.scale.value, "source": plan.scale.source},
        "field": {"um": plan.field.um, "pixels": plan.side, "source": plan.field.source},
        "step": plan.step,
        "routing": plan.asked.routing,
        "model": {
            "name": export.card.get("name"),
            "digest": export.digest,
            "configs": list(export.configs),
            "views": export.views,
            "warnings": [*export.warnings, *filter(None, [far_from(export, plan.field)])],
        },
        **found,
        "tiles": found["tiles"] | number["tiles"],
        "classes": number["classes"],
        "tissue_shares": tissue_shares(answered),
        "agreement": None if plan.regions is None else agreement(plan.regions, answered),
        "settings": plan.settings,
    }


class Clock:
    """Says how many seconds each part of the work took."""

    def __init__(self):
        self.seconds, self._last = {}, time.monotonic()

    def note(self, part: str) -> None:
        now = time.monotonic()
        self.seconds[part], self._last = round(now - self._last, 2), now


def _complaint(path, summary) -> str:
    """Return a sentence of a slide that was written, but not all of it answered; "" of a good one."""
    tiles = summary["tiles"]
    if tiles["failed"]:
        return f"{path}: {counted(tiles['failed'], 'tile')} could not be answered; tiles.csv says why."
    if not tiles["answered"]:
        least = f"{100 * summary['tissue']['least']:g}%"
        return f"{path}: no tile has {least} tissue, so none was answered: is it an H&E slide? --tissue takes less."
    return ""
