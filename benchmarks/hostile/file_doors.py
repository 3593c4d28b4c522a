"""The doors that take files of other kinds: weights, slides, data sets and lists for ``bulk``."""

import functools
import shutil
from pathlib import Path

from benchmarks.hostile.answer import Answer
from benchmarks.hostile.commands import load_once, run, written
from benchmarks.hostile.tree import Tree


def inspect(tree: Tree, place: Path):
    from bach_keras.network import inspection

    _build_once(inspection)
    return lambda number, path: run(["weights", "inspect", "--", path])


def port(tree: Tree, place: Path):
    from bach_keras.network import weights

    _build_once(weights)
    return lambda number, path: run(["weights", "port", "--overwrite", "--", path, place / "out" / "ported.h5"])


def _build_once(module) -> None:
    """Let a command share one network to compare files with: building it takes longer than reading them."""
    module.resnext50 = functools.cache(module.resnext50)


def slide(tree: Tree, place: Path):
    """``slide``, of a file as a slide or, by its ending, as the regions of a good one; what it writes is looked at."""
    load_once()
    whole = tree.folder / "slide.tif"

    def ask(number: int, path: Path) -> Answer:
        words = [
            "slide",
            "--model",
            tree.export,
            "--um-per-pixel",
            0.42,
            "--field",
            60,
            "--tissue",
            0,
            "--out",
            place / "out",
        ]
        if path.suffix == ".geojson":
            words += ["--regions", path, "--", whole]
        else:
            words += ["--", path]
        return written(run(words), place / "out")

    return ask


def prepare(tree: Tree, place: Path):
    """``data prepare``: of zips as what their names say, of folders and CSV files as a user's own images."""

    def ask(number: int, path: Path) -> Answer:
        data = place / "out" / "data"
        words = ["data", "prepare", "--source", path, "--data-dir", data]
        if path.suffix == ".zip":
            answer = run([*words, "--config", path.name.split()[1]])
        else:
            answer = run([*words, "--config", "own", "--name", f"own{number}"], allow=1)
        shutil.rmtree(data, ignore_errors=True)
        return answer

    return ask


def bulk(tree: Tree, place: Path):
    """``bulk``, of files that are not lists: they are refused before anything starts."""
    return lambda number, path: run(["bulk", "--model", tree.export, "--input", path, "--out", place / "out" / "bulk"])
