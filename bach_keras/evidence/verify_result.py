"""Every figure of an evaluation, computed again from its predictions and compared: without the model, or TensorFlow."""

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

from bach_keras.evidence import predictions, stability_card
from bach_keras.evidence.likeness import check_training
from bach_keras.evidence.looks import check_looks
from bach_keras.evidence.page import END
from bach_keras.evidence.predictions import Predictions
from bach_keras.evidence.ranges import check_bounds
from bach_keras.evidence.report import UNCHECKED, sections
from bach_keras.evidence.scoring import score
from bach_keras.evidence.stability_card import ANSWERS, CARD
from bach_keras.fields import NAME, TEXT, TEXTS, FieldError, check, plain, read_object, shown, whole
from bach_keras.wording import counted
from datasets.errors import MissingError, UserError
from datasets.open_file import open_file

# Two computers may round a figure otherwise, by far less than this.
TOLERANCE = 1e-9

MAX_PAGE = 2**26  # bytes; a page with all the pictures that it takes is far smaller
_SECTION = re.compile(r'<section\b[^>]*?\bid="([^"]*)"')

# What metrics.json says of where the answers come from, which no prediction tells. The report shows it as it stands.
ORIGIN = {
    "views": whole(1), "config": NAME, "protocol": TEXT, "split": NAME, "split_notes": TEXTS, "members": TEXTS,
    "member_configs": TEXTS,
}  # fmt: skip

# What a run's metrics.json says beside the figures of its best epoch.
OF_TRAINING = ("kind", "epochs", "best_epoch", "seconds", "split", "chosen_on", "until", "reached", "stains")


@dataclass
class Verified:
    """What was checked, and where a file says otherwise than its predictions."""

    checked: list[str] = field(default_factory=list)  # a sentence each
    differences: list[str] = field(default_factory=list)


def verify_result(path: Path) -> Verified:
    """Check the files of an evaluation against each other.

    Args:
        path: a folder of an evaluation, or its predictions.csv or metrics.json. A run folder has no report of its own.
            Or a folder of a stability card alone, or one of its two files.

    Raises:
        UserError: a file is missing, or is not one that evaluate writes.
    """
    path = Path(path)
    if path.name in (ANSWERS, CARD) or _holds_a_card_alone(path):
        return verify_stability(path if path.is_dir() else path.parent)[1]
    of_rows, of_figures, of_page = _files(path)
    written = _read_figures(of_figures)
    found = Verified()
    try:
        answered = predictions.read_predictions(of_rows)
    except UserError as error:
        found.differences.append(str(error))
        return found
    found.checked.append(
        f"{counted(len(answered.rows), 'row')} of {of_rows.name}: none was changed, and each is an answer of "
        f"{answered.node or 'the tree'} to another image"
    )
    if "best_epoch" in written:
        _compare_run(found, answered, written, of_figures.name)
        return found
    bounds = _bounds(found, answered, written, of_figures.name)
    training = _training(found, written, of_figures.name)
    computed = score(answered, _stain_normalisation(answered, written), bounds, training)
    _compare_figures(found, computed, written, of_figures.name)
    if more := sorted(set(written) - set(computed) - {*ORIGIN, "looks", "stability"}):
        found.differences.append(f"{of_figures.name} holds {plain(', '.join(more), 200)}, which no predictions come to")
    taken = {"warnings.ranges": bounds, "likeness.training": training, "looks": written.get("looks")}
    unchecked = [*ORIGIN, *(place for place, said in taken.items() if said)]
    found.checked.append(f"not checked, since no prediction tells them: {', '.join(unchecked)}")
    if "stability" in written or (of_page.parent / CARD).is_file():
        _compare_stability(found, of_page.parent, answered, written)
    if not found.differences:
        _compare_page(found, of_page, sections(written, answered.rows))
    return found


def verify_stability(folder: Path, answered: Predictions | None = None) -> tuple[dict, Verified]:
    """Check a stability card against its answers; and these against an evaluation's, where that is given.

    Returns:
        What stability.json says, and what was checked.

    Raises:
        UserError: a file is missing, or stability.json is not one that `stability` writes.
    """
    card, found = stability_card.read_card(folder), Verified()
    try:
        answers, digest = stability_card.read_answers(folder)
    except UserError as error:
        found.differences.append(str(error))
        return card, found
    first = answers[stability_card.UNCHANGED]
    found.checked.append(
        f"{counted(len(first.rows), 'image')} of {ANSWERS}, each with {len(answers) - 1} changes: no row was changed"
    )
    computed = {**stability_card.figures(answers), "answers_digest": digest}
    _compare_figures(found, computed, card, CARD)
    if more := sorted(set(card) - set(computed) - set(stability_card.ORIGIN)):
        found.differences.append(f"{CARD} holds {plain(', '.join(more), 200)}, which no answers come to")
    found.checked.append(f"not checked, since no answer tells them: {', '.join(stability_card.ORIGIN)}")
    if answered is not None:
        if first.model_digest != answered.model_digest or first.node != answered.node:
            found.differences.append(f"{CARD} is of another system than {predictions.FILE}")
        judged = {_identity(row) for row in answered.rows}
        if other := [row["filename"] for row in first.rows if _identity(row) not in judged]:
            found.differences.append(f"{CARD} is of images that {predictions.FILE} lacks, such as {shown(other[0])}")
    return card, found


def _identity(row: dict) -> tuple:
    return row["filename"], row["digest"], row["truth"], row["group"]


def _holds_a_card_alone(path: Path) -> bool:
    evaluated = any((path / name).is_file() for name in (predictions.FILE, "metrics.json"))
    return (path / CARD).is_file() and not evaluated


def _compare_stability(found: Verified, folder: Path, answered: Predictions, written: dict) -> None:
    """Compare the stability card that an evaluation shows with the one beside it, and that with its answers."""
    is_shown = "stability" in written
    card, of_card = verify_stability(folder, answered if is_shown else None)
    found.checked += of_card.checked
    found.differences += of_card.differences
    if not is_shown:
        found.checked.append(f"{CARD} is beside the report, which does not show it: evaluate again, if it should")
    elif written["stability"] != card:
        found.differences.append(f"stability in metrics.json is not what {CARD} says: evaluate again")


def _files(path: Path) -> tuple[Path, Path, Path]:
    """Return the predictions, the figures and the report that belong together."""
    folder = path if path.is_dir() else path.parent
    of_rows = path if path.suffix == ".csv" else folder / predictions.FILE
    of_figures = path if path.suffix == ".json" else folder / "metrics.json"
    for file in (of_rows, of_figures):
        if not file.is_file():
            raise MissingError(f"{file} is not there: name the folder that evaluate --out wrote, or a file in it.")
    return of_rows, of_figures, folder / "report.html"


def _read_figures(path: Path) -> dict:
    try:
        written = read_object(path)
        if "best_epoch" not in written:
            check(written, ORIGIN)
            if "looks" in written:
                check_looks(written["looks"], "looks")
        return written
    except UserError as error:
        raise UserError(f"{path} is not what an evaluation writes ({error}): evaluate again.") from error


def _stain_normalisation(answered: Predictions, written: dict) -> str:
    """Return the method, which metrics.json names; the rows say whether there was one."""
    if all(row["normalised"] is None for row in answered.rows):
        return "none"
    stains = written.get("stains")
    method = stains.get("method") if isinstance(stains, dict) else None
    return method if isinstance(method, str) else "not named"


def _bounds(found: Verified, answered: Predictions, written: dict, name: str) -> dict | None:
    """Return the ranges that metrics.json names, by which the rows say which images have a warning."""
    if all(row["measured"] is None for row in answered.rows):
        return None
    warnings = written.get("warnings")
    try:
        return check_bounds(warnings["ranges"] if isinstance(warnings, dict) else None, "warnings.ranges")
    except (FieldError, KeyError) as error:
        found.differences.append(f"{name} does not say by which ranges its images were judged: {error}")
        return None


def _training(found: Verified, written: dict, name: str) -> dict | None:
    """Return what metrics.json says of the training images that its own are compared with, if it does."""
    if not isinstance(said := written.get("likeness"), dict):
        return None
    try:
        return check_training(said.get("training"), "likeness.training")
    except FieldError as error:
        found.differences.append(f"{name} does not say with which training images its own were compared: {error}")
        return None


def _compare_run(found: Verified, answered: Predictions, written: dict, name: str) -> None:
    """Compare the figures of a run's best epoch; the others in its metrics.json are of its training."""
    if answered.node is None or answered.node != written.get("node"):
        found.differences.append(f"node is {_said(written.get('node'))} in {name}, and the predictions are of another")
        return
    computed = score(answered)["nodes"][answered.node]
    _compare_figures(found, computed, written, name)
    # An evaluation that says that it is a run would have less of it checked.
    if more := sorted(set(written) - set(computed) - {"node", *OF_TRAINING}):
        found.differences.append(f"{name} holds {plain(', '.join(more), 200)}, which no run writes")
    there = [key for key in OF_TRAINING if key in written]
    found.checked.append(f"not checked, since no prediction tells them: {', '.join(there)}")


def _compare_figures(found: Verified, computed: dict, written: dict, name: str) -> None:
    count = 0
    for place, mine, theirs in _leaves(computed, {key: written[key] for key in computed if key in written}):
        count += 1
        if not _equal(mine, theirs):
            found.differences.append(f"{place} is {_said(theirs)} in {name}, and the predictions come to {_said(mine)}")
    found.checked.append(f"{counted(count, 'figure')} of {name}: computed again and compared, to within {TOLERANCE:g}")


class _Missing:
    """Stands for what one of the two does not have."""


def _leaves(mine, theirs, place: str = ""):
    """Yield the place of each figure of two nested values, and both of them; ``_Missing`` where one has none."""
    if isinstance(mine, dict) and isinstance(theirs, dict) and mine:
        for key in [*mine, *(key for key in theirs if key not in mine)]:
            inner = f"{place}.{plain(str(key), 60)}" if place else plain(str(key), 60)
            yield from _leaves(mine.get(key, _Missing), theirs.get(key, _Missing), inner)
    elif isinstance(mine, list | tuple) and isinstance(theirs, list) and len(mine) == len(theirs) and mine:
        for index, pair in enumerate(zip(mine, theirs, strict=True)):
            yield from _leaves(*pair, f"{place}[{index}]")
    else:
        yield place, mine, theirs


def _equal(mine, theirs) -> bool:
    if isinstance(mine, float) and isinstance(theirs, int | float) and not isinstance(theirs, bool):
        # From a float, a whole number beyond all of them cannot be subtracted.
        return abs(theirs) <= sys.float_info.max and abs(mine - theirs) <= TOLERANCE
    mine = list(mine) if isinstance(mine, tuple) else mine
    return type(mine) is type(theirs) and mine == theirs


def _said(value) -> str:
    if value is _Missing:
        return "missing"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    return shown(value)


def _compare_page(found: Verified, path: Path, parts: list[str]) -> None:
    if not path.is_file():
        raise MissingError(f"{path} is not there, so the report cannot be checked: evaluate again.")
    with open_file(path) as file:
        content = file.read(MAX_PAGE + 1)
    if len(content) > MAX_PAGE:
        found.differences.append(f"{path.name} is larger than {MAX_PAGE} bytes: it is not a page that evaluate wrote")
        return
    page = content.decode(errors="replace")
    # A browser does not show a part inside a comment.
    if "<!--" in page:
        found.differences.append(f"{path.name} holds a comment, which may hide a part: evaluate writes none")
    names, made = _SECTION.findall(page), _SECTION.findall("".join(parts))
    for name in dict.fromkeys(names):
        if name not in {*made, *UNCHECKED} or names.count(name) > 1:
            found.differences.append(f"{path.name} holds a section {plain(name, 60)} that evaluate did not write")
    if not page.endswith(END):
        found.differences.append(f"{path.name} does not end as evaluate wrote it: something was added or cut off")
    for part in parts:
        if part not in page:
            found.differences.append(
                f"{path.name} lacks a part as its figures come to: it should hold {shown(part)} and what follows it"
            )
    found.checked.append(f"{counted(len(parts), 'part')} of {path.name} that show figures: made again and looked for")
    found.checked.append(f"not checked in {path.name}, since no prediction tells them: {', '.join(UNCHECKED.values())}")
