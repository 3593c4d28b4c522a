"""Two systems, or two runs of one node, compared by their answers for the same images."""

import json
from pathlib import Path

from bach_keras.evidence import predictions
from bach_keras.evidence.errors import SYSTEM, answer_of
from bach_keras.evidence.metrics import in_words
from bach_keras.evidence.paired import paired
from bach_keras.evidence.predictions import Predictions
from bach_keras.evidence.scoring import of_headline, score
from bach_keras.fields import plain
from bach_keras.tree import NODES
from bach_keras.wording import counted
from datasets.errors import MissingError, UserError
from datasets.escape import for_terminal
from datasets.labels import CLASSES


def compare(first: Path, second: Path) -> dict:
    """Return both scores, and their paired differences by patient.

    Args:
        first, second: each a predictions file, the folder of an evaluation, or a run folder.

    Returns:
        ``headline``, who is compared: "system" for the four classes, or a node; ``first`` and ``second``: ``file`` and
        the scores of each; and what ``paired`` returns, differences being second minus first.
    """
    files = [_file(Path(place)) for place in (first, second)]
    one, other = (predictions.read_predictions(file) for file in files)
    _check_alike(one, other, files)
    headline = score(one)["headline"]
    own = [_judged(each, headline) for each in (one, other)]
    scores = [{"file": str(file), **of_headline(score(each))} for file, each in zip(files, (one, other), strict=True)]
    return {"headline": headline, "first": scores[0], "second": scores[1], **paired(*own)}


def as_table(result: dict):
    """Yield a comparison as lines for people."""
    what = "four-class accuracy" if result["headline"] == SYSTEM else f"{result['headline']} accuracy"
    for name in ("first", "second"):
        yield for_terminal(f"{name:6}  {result[name]['file']}: {what} {in_words(result[name])}")


def as_json(result: dict):
    """Yield a comparison as one line of JSON."""
    yield json.dumps(result)


LINES = {"table": as_table, "json": as_json}


def _file(place: Path) -> Path:
    """Return the predictions file that a place stands for."""
    file = place / predictions.FILE if place.is_dir() else place
    if file.is_file():
        return file
    if (place / "config.json").is_file():
        raise MissingError(
            f"{place} is a run without {predictions.FILE}: it is of an earlier version, has not finished, or kept no "
            "validation images. Train it again, or compare evaluations."
        )
    raise MissingError(
        f"{file} is not there: name a {predictions.FILE}, the folder of an evaluation, or that of a finished run."
    )


def _check_alike(one: Predictions, other: Predictions, files: list[Path]) -> None:
    """Refuse answers of different nodes, or for different images: their difference would be of something else."""
    if one.node != other.node:
        named = [f"{file} is of {each.node or 'a tree'}" for file, each in zip(files, (one, other), strict=True)]
        raise UserError(f"{' and '.join(named)}: compare two trees, or two runs of one node.")
    if one.split_digest == other.split_digest:
        return
    sides = [{row["filename"]: (row["truth"], row["digest"]) for row in each.rows} for each in (one, other)]
    apart = sorted(set(sides[0].items()) ^ set(sides[1].items()))
    if apart:
        count = len({name for name, _ in apart})
        raise UserError(
            f"{files[0]} and {files[1]} are not of the same images: {counted(count, 'image')} such as "
            f"{plain(apart[0][0], 60)} {'is' if count == 1 else 'are'} in one of them only, or with another label or "
            "other pixels. Compare answers for the same split of the same data."
        )


def _judged(answered: Predictions, headline: str) -> list[dict]:
    """Return the rows that the headline judges, by file name; of a node, truth and label are its own two classes."""
    rows = sorted(answered.rows, key=lambda row: row["filename"])
    if headline == SYSTEM:
        return [row for row in rows if row["truth"] in CLASSES]
    node = NODES[headline]
    return [
        {**row, "truth": node.classes[node.targets[row["truth"]]], "label": node.classes[answer_of(row, headline)]}
        for row in rows
        if row["truth"] in node.targets
    ]
