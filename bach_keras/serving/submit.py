"""The answer file of the BACH challenge: ``case,class``, a line for each of its test images."""

import csv
import os
import re
from pathlib import Path

from bach_keras.serving.predict import predict_files
from datasets.catalogue import BACH
from datasets.errors import UserError, WorkError
from datasets.images.folder import find_images
from datasets.labels import CLASSES
from datasets.whole import whole

HEAD = ("case", "class")  # the classes are numbered as CLASSES orders them: 0 normal to 3 invasive

_NUMBER = re.compile(r"[0-9]+")


def find_cases(folder: Path) -> dict[int, Path]:
    """Return the images of a folder by their cases: the number in the file's name, 0 for ``test0.tif``; sorted.

    Refuses a file without a number or with several, and two files of one case.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: name the one that holds the challenge's test images.")
    cases: dict[int, Path] = {}
    for path in find_images([folder]):
        numbers = _NUMBER.findall(path.stem)
        if len(numbers) != 1:
            why = f"has the numbers {', '.join(numbers)}" if numbers else "has no number"
            raise UserError(
                f"{path} {why} in its name, so it is not known which case it is: the challenge's images are named like "
                "test0.tif."
            )
        case = int(numbers[0])
        if case in cases:
            raise UserError(f"{cases[case]} and {path} are both case {case}: name a folder that holds each case once.")
        cases[case] = path
    return dict(sorted(cases.items()))


def check_destination(out: Path, cases: dict[int, Path]) -> None:
    """Refuse a place where no file can be written, and that of an image, which would be lost."""
    if out.resolve() in {path.resolve() for path in cases.values()}:
        raise UserError(f"{out} is one of the images to answer for: name another file, such as pred.csv.")
    if out.is_dir():
        raise UserError(f"{out} is a folder: name a file, such as {out / 'pred.csv'}.")
    above = next(folder for folder in out.absolute().parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise UserError(
            f"{out} cannot be written, as {above} is not a folder that can be written to: choose another place."
        )


def missing_cases(cases) -> list[int]:
    """Return the cases of the challenge's test set that are not among these."""
    return sorted(set(range(len(BACH.unlabelled))) - set(cases))


def other_cases(cases) -> list[int]:
    """Return those of these cases that the challenge's test set does not have."""
    return sorted(set(cases) - set(range(len(BACH.unlabelled))))


def check_model(export) -> None:
    """Refuse a node by itself, which cannot answer with all four classes."""
    if tuple(export.classes) != CLASSES:
        raise UserError(
            f"{export.folder} answers {', '.join(export.classes)} and the challenge asks for {', '.join(CLASSES)}: "
            "export a whole tree."
        )


def write_answers(export, cases: dict[int, Path], out: Path) -> None:
    """Answer every case and write the file; writes nothing if an image has no answer, as a file with gaps is void."""
    rows = []
    for case, answer in zip(cases, predict_files(export, cases.values()), strict=True):
        if "error" in answer:
            raise WorkError(f"{out} was not written, as {answer['path']} has no answer: {answer['error']}")
        rows.append((case, CLASSES.index(answer["label"])))
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole(out) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([HEAD, *rows])
