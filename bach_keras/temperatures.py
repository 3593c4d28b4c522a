"""The temperatures of a run, RUN/calibration.json: results of its validation images, fitted after its training.

An entry belongs to one set of weights, ``model`` or ``snapshots/NAME``, and to one number of views of an image.
"""

from bach_keras.fields import OBJECT, SHA256, FieldError, check, number, plain, read_object, whole
from bach_keras.run_folder import Run
from bach_keras.tree import TEMPERATURES, VIEWS
from datasets.errors import UserError
from datasets.whole import write_json

NAME = "calibration.json"

_ENTRY = {"temperature": number(*TEMPERATURES), "digest": SHA256, "n": whole(1), "groups": whole(1)}
_MORE = {"before": OBJECT, "after": OBJECT}


def write(run: Run, weights: str, views: int, entry: dict) -> None:
    """Add what was fitted to the run's file, in place of what it says of the same weights and views.

    Args:
        weights: ``model`` or ``snapshots/NAME``.
        entry: ``temperature``, ``digest`` of the weights, ``n`` and ``groups``, and whatever else is to be known of it.
    """
    try:
        entries = _read(run)
    except UserError:  # it is written again, so nothing is lost that could be used
        entries = {}
    of_weights = entries.get(weights, {})
    # What was fitted to other weights, which a training has replaced since, is of no use.
    kept = {count: each for count, each in of_weights.items() if each["digest"] == entry["digest"]}
    write_json(run.folder / NAME, entries | {weights: kept | {str(views): entry}})


def remove(run: Run, weights: str, views: int) -> None:
    """Forget what was fitted to these weights on so many views."""
    if read(run, weights, views) is not None:
        entries = _read(run)
        del entries[weights][str(views)]
        write_json(run.folder / NAME, entries)


def read(run: Run, weights: str, views: int) -> dict | None:
    """Return what was fitted to these weights on so many views; None where nothing was."""
    return _read(run).get(weights, {}).get(str(views))


def views_of(run: Run, weights: str) -> list[int]:
    """Return on which numbers of views something was fitted to these weights."""
    return sorted(map(int, _read(run).get(weights, {})))


def check_digest(run: Run, weights: str, entry: dict, digest: str) -> None:
    """Refuse what was fitted to other weights than those that are there now."""
    if entry["digest"] != digest:
        raise UserError(
            f"{run.folder / NAME} was fitted to other weights than those of {weights} in this run, so its temperature "
            "says nothing about them: fit it again with `calibrate`, or delete the file."
        )


def _read(run: Run) -> dict:
    path = run.folder / NAME
    if not path.exists():
        return {}
    try:
        entries = read_object(path)
        check(entries, {}, dict.fromkeys(entries, OBJECT))
        for weights, by_views in entries.items():
            check(by_views, {}, dict.fromkeys(by_views, OBJECT), within=plain(weights, 60))
            for views, entry in by_views.items():
                if views not in map(str, VIEWS):
                    raise FieldError(f"{plain(weights, 60)}.{plain(views, 60)} is not a number of views")
                check(entry, _ENTRY, _MORE, within=f"{plain(weights, 60)}.{views}")
        return entries
    except FieldError as error:
        raise UserError(
            f"{path} is not what `calibrate` writes ({error}): fit it again with `calibrate`, or delete the file."
        ) from error
