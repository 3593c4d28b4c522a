"""The doors that take run folders, exports and evaluations: runs, evaluate, verify-result, compare, and the report."""

import json
import os
import traceback
from pathlib import Path

from benchmarks.hostile.answer import ANSWERED, CRASHED, REFUSED, Answer
from benchmarks.hostile.commands import run, written
from benchmarks.hostile.tree import Tree

_FORMS = ("table", "json", "csv")


def runs(tree: Tree, place: Path):
    def ask(number: int, path: Path) -> Answer:
        form = _FORMS[number % 3]
        return run(["runs", "--format", form, "--", path], "terminal" if form == "table" else form)

    return ask


def evaluate(tree: Tree, place: Path):
    """``evaluate`` of a hostile run, of a tree with one in it, or of a hostile export; what it writes is looked at."""

    def ask(number: int, path: Path) -> Answer:
        out = place / "out" / "evaluation"
        words = ["evaluate", *tree.images, "--out", out]
        if (path / "assets").exists() or (path / "saved_model.pb").exists():
            words += ["--model", path]
        else:
            words += ["--carci", path]
        return written(run(words), out)

    return ask


def report(tree: Tree, place: Path):
    """``verify-result`` and ``compare`` of a hostile evaluation; the report of an evaluation with a hostile run."""

    def ask(number: int, path: Path) -> Answer:
        if not os.path.lexists(path / "config.json"):
            answers = [run(["verify-result", path]), run(["compare", path, tree.evaluation])]
            return max(answers, key=lambda answer: (answer.kind == CRASHED, len(answer.faults)))
        return written(_page(tree, path, place / "out" / "report.html"), place / "out")

    return ask


def _page(tree: Tree, path: Path, out: Path) -> Answer:
    from bach_keras.evidence.predictions import read_predictions
    from bach_keras.evidence.report import write_report
    from datasets.errors import UserError

    result = json.loads((tree.evaluation / "metrics.json").read_text())
    rows = list(read_predictions(tree.evaluation / "predictions.csv").rows)
    try:
        write_report(out, result, rows, [path], {})
    except UserError as error:
        return Answer(REFUSED, str(error))
    except OSError as error:  # the border has a sentence for it
        return Answer(REFUSED, str(error))
    except Exception:
        return Answer(CRASHED, traceback.format_exc())
    return Answer(ANSWERED)
