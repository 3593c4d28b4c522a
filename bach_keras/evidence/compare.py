"""Two systems, or two runs of one node, compared by their answers for the same images."""

import json
from pathlib import Path

from bach_keras.evidence import predictions
from bach_keras.evidence.errors import SYSTEM, answer_of, judges
from bach_keras.evidence.metrics import in_words
from bach_keras.evidence.paired import paired
from bach_keras.evidence.predictions import Predictions
from bach_keras.evidence.scoring import headline_of
from bach_keras.tree import NODES
from bach_keras.wording import counted
from datasets.errors import MissingError, UserError
from datasets.escape import for_terminal


def compare(first: Path, second: Path) -> dict:
    """Return both scores, and their paired differences by patient.

    Args:
        first, second: each a predictions file, the folder of an evaluation, or a run folder.

    Returns:
        ``headline``, who is compared: "system" for the four classes, or a node; ``of_unknown_patients``, how many of
        the images; and what ``paired`` returns, ``first`` and ``second`` also with their ``file`` and ``chosen_on``,
        how many of the images chose an epoch or a threshold of theirs.
    """
    files = [_file(Path(place)) for place in (first, second)]
    one, other = (predictions.read_predictions(file) for file in files)
    if one.node != other.node:
        named = [f"{file} is of {each.node or 'a tree'}" for file, each in zip(files, (one, other), strict=True)]
        raise UserError(f"{' and '.join(named)}: compare two trees, or two runs of one node.")
    headline = one.node or headline_of(one.rows)
    rows, others = _judged(one, headline), _judged(other, headline)
    try:
        result = paired(rows, others)
    except UserError as error:
        raise UserError(f"{files[0]} and {files[1]} are not of the same images. {error}") from error
    for name, file, judged in zip(("first", "second"), files, (rows, others), strict=True):
        result[name] = {"file": str(file), **result[name], "chosen_on": sum(row["chosen"] for row in judged)}
    return {"headline": headline, "of_unknown_patients": sum(not row["group"] for row in rows), **result}


def as_table(result: dict):
    """Yield a comparison as lines for people."""
    what = "four-class accuracy" if result["headline"] == SYSTEM else f"{result['headline']} accuracy"
    behind = {key: result[key] for key in ("n", "groups", "effective_n")}
    # Where this is there, ``in_words`` says that some patients are unknown.
    behind["why"] = {"groups": ""} if result["of_unknown_patients"] else {}
    for name in ("first", "second"):
        score = result[name]
        yield for_terminal(f"{name}: {score['file']}")
        yield f"  {what} {in_words(score | behind)}"
        yield f"  balanced accuracy {score['balanced_accuracy']:.3f} ({_interval(score['balanced_accuracy_ci95'])})"
        if score["chosen_on"]:
            yield f"  {score['chosen_on']} of the images chose it among others, so this is optimistic"
    if result["first"]["chosen_on"] != result["second"]["chosen_on"]:
        yield "not alike: more of the images chose the one than the other, so the difference favours that one"
    yield "first minus second, over the same patients:"
    for name, title in (("difference", what), ("balanced_difference", "balanced accuracy")):
        yield f"  {title} {result[name]:+.3f} ({_interval(result[f'{name}_ci95'], '+')})"
    alone = f"the first alone is right on {result['first_only']}, the second alone on {result['second_only']}"
    yield f"  McNemar's exact test: p = {result['mcnemar_p']:.3g}; {alone} of {counted(result['n'], 'image')}"
    yield f"  {result['mcnemar_note']}"


def _interval(pair, sign: str = "") -> str:
    low, high = pair
    return f"95 % interval {low:{sign}.3f} to {high:{sign}.3f}"


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


def _judged(answered: Predictions, headline: str) -> list[dict]:
    """Return the rows that the headline judges, by file name; of a node, truth and label are its own two classes."""
    rows = sorted((row for row in answered.rows if judges(row, headline)), key=lambda row: row["filename"])
    if headline == SYSTEM:
        return rows
    node = NODES[headline]
    return [
        {**row, "truth": node.classes[node.targets[row["truth"]]], "label": node.classes[answer_of(row, headline)]}
        for row in rows
    ]
