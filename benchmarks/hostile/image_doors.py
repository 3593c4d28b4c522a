"""The doors that take an image file: predict, the export's own decoding, and who calls the TFLite file."""

import functools
from pathlib import Path

from benchmarks.hostile.answer import ANSWERED, REFUSED, Answer, of_refusal
from benchmarks.hostile.commands import load_once, run, written
from benchmarks.hostile.pictures import good
from benchmarks.hostile.tree import Tree
from datasets.labels import CLASSES

_FORMS = ("table", "json", "csv")
# Every so many images the command is asked for more than the answer; in each of the three formats.
_EXPLAINED = 7


def predict(tree: Tree, place: Path):
    """``predict`` in each of its formats, now and then with pictures of where it looked."""
    load_once()

    def ask(number: int, path: Path) -> Answer:
        form = _FORMS[number % 3]
        words = ["predict", "--model", tree.export, "--format", form]
        if number % _EXPLAINED == 0:
            words += ["--explain", place / "out" / "explained", "--icc", "apply", "--neighbours", 2]
        return written(run([*words, "--", path], "terminal" if form == "table" else form), place / "out")

    return ask


def decoding(tree: Tree, place: Path):
    """The export's ``serving_default``: the file's bytes, beside a good image that must not suffer."""
    from bach_keras.serving.exported import Export

    export, beside = Export(tree.export), good()["rgb.png"]
    wanted = export.encoded([beside])["probabilities"].numpy()[0]

    def ask(number: int, path: Path) -> Answer:
        outputs = export.encoded([path.read_bytes(), beside])
        is_ok = outputs["ok"].numpy().tolist()
        shares = outputs["probabilities"].numpy()
        faults = [] if is_ok[1] and abs(shares[1] - wanted).max() < 1e-5 else ["the image beside it suffers"]
        if is_ok[0] and not abs(shares[0].sum() - 1) < 1e-4:
            faults.append("its probabilities do not sum to 1")
        return Answer(ANSWERED if is_ok[0] else REFUSED, "ok" if is_ok[0] else "not ok", faults)

    return ask


def bulk(tree: Tree, place: Path):
    """What ``bulk`` does with an image, without its cluster: decode it apart, answer, and write Parquet."""
    import pyarrow.parquet as pq

    from bach_keras.serving.bulk.columns import as_table
    from bach_keras.serving.bulk.plan import Looking
    from bach_keras.serving.bulk.reading import Decoder, Measured, answered, read_files
    from bach_keras.serving.exported import Export
    from bach_keras.serving.metadata import ColourProfile, PixelSize

    export, decodes = Export(tree.export), Decoder()
    looking = Looking(export.side, export.views, export.ranges, time_limit=15, icc="apply")
    extras = PixelSize(), ColourProfile(is_applied=True), Measured(export.ranges, None)
    written = place / "out" / "part-00000.parquet"

    def ask(number: int, path: Path) -> Answer:
        rows = answered(export, list(read_files([str(path)], looking, decodes)), "soft", extras)
        pq.write_table(as_table(rows, export.outputs, export.digest), written)
        (row,) = pq.read_table(written).to_pylist()
        if row["error"] is not None:
            return of_refusal(row["error"])
        total = sum(share for name, share in row.items() if name.startswith("probabilities."))
        faults = [] if abs(total - 1) < 1e-4 and row["label"] in CLASSES else ["its row is not an answer"]
        return Answer(ANSWERED, row["label"], faults)

    ask.close = decodes.close  # which a process that ends does by itself
    return ask


def tflite(tree: Tree, place: Path):
    """``parity``: reads the file, and gives its pixels to the TFLite file and to every other form."""
    load_once()
    from bach_keras import members
    from bach_keras.serving import parity

    members.load_member = functools.cache(members.load_member)
    open_forms, opened = parity.open_forms, []

    def open_once(*of_tree):
        if not opened:
            opened.extend(open_forms(*of_tree))
        return opened

    parity.open_forms = open_once
    words = ["parity", *tree.members, "--model", tree.export, "--tflite", tree.tflite, "--"]
    return lambda number, path: _parity(run([*words, path]))


def _parity(answer: Answer) -> Answer:
    # It exits with 1 where forms disagree, after they all answered.
    is_table = "Keras runs" in answer.words and "TFLite" in answer.words
    return Answer(ANSWERED, answer.words, answer.faults) if is_table else answer
