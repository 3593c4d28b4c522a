"""All forms of one tree on the same images: how closely they agree, how large and how fast they are."""

import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from bach_keras import preprocess
from bach_keras.hierarchy import check_members
from bach_keras.serving.agreement import HALF_PRECISION, LIMITS, Agreement, Limit, compare
from bach_keras.serving.exported import ROUTINGS, Export
from bach_keras.serving.images import as_png
from bach_keras.serving.tflite.file import TFLite
from bach_keras.tree import ROOT, SPECIALISTS
from datasets.errors import UserError
from datasets.images.ahead import THREADS, read_ahead
from datasets.progress import bar


class KerasRuns:
    """The runs as Keras holds them, with no trunk shared and no batch norm folded: the reference of the other forms."""

    def __init__(self, members, views: int = 1):
        self._members, self._views = members, views
        self._names = tuple(dict.fromkeys(member.node for member in members))
        self._nodes = tf.function(self._answers)

    @property
    def megabytes(self) -> float:
        """The size of all weights."""
        return sum(4 * member.model.count_params() for member in self._members) / 1e6

    def images(self, images) -> dict[str, np.ndarray]:
        """Return the probabilities [N, 4] of uint8 [N, H, W, 3] under each routing, ``soft`` and ``routed``.

        Of one node they are [N, 2], and the same under both.
        """
        view = self._members[0].view
        parts = preprocess.part(images, view.image_size, self._views)
        parts = preprocess.normalise_stain(parts, view.image_size, view.stain_normalisation)
        squares = [preprocess.views_of(part, view.image_size, self._views) for part in parts]
        by_image = [{name: answer.numpy() for name, answer in self._nodes(each).items()} for each in squares]
        nodes = {name: np.stack([each[name].mean(axis=0) for each in by_image]) for name in self._names}
        if len(nodes) == 1:
            return dict.fromkeys(ROUTINGS, next(iter(nodes.values())))
        # Soft routing weighs the specialists by carci's answer, routed gives all weight to the one it chose.
        group = nodes[ROOT.name]
        chosen = np.eye(2)[group.argmax(axis=1)]
        pairs = [nodes[node.name] for node in SPECIALISTS]
        return {
            routing: np.concatenate([share[:, i, None] * pair for i, pair in enumerate(pairs)], axis=1)
            for routing, share in (("soft", group), ("routed", chosen))
        }

    def _answers(self, squares):
        inputs = preprocess.normalise(squares)
        return {
            name: self._average([member for member in self._members if member.node == name], inputs)
            for name in self._names
        }

    @staticmethod
    def _average(members, inputs):
        total = sum(member.weight for member in members)
        answers = [tf.nn.softmax(member.model(inputs, training=False) / member.temperature) for member in members]
        return tf.add_n([member.weight / total * answer for member, answer in zip(members, answers, strict=True)])


@dataclass(frozen=True)
class Form:
    """One form of a tree.

    ``answer`` is called with an image, uint8 [1, H, W, 3], and its PNG; it returns the probabilities [1, 4], and for
    the runs those under each routing.
    """

    name: str
    answer: Callable
    routing: str  # of the runs that it is compared with
    limit: Limit | None  # what it may differ by; None for the runs themselves
    megabytes: float


@dataclass(frozen=True)
class Row:
    """What was measured of one form: how it agrees with the runs, and the median time of an image."""

    form: Form
    agreement: Agreement
    milliseconds: float

    @property
    def holds(self) -> bool:
        return self.form.limit is None or self.agreement.holds(self.form.limit)


def open_forms(members, export: Export, files) -> list[Form]:
    """Return the forms of a tree, the runs first; refuses a form that sees images otherwise than they do."""
    check_members(members)
    view, lites = members[0].view, [TFLite(file) for file in files]
    for form, name in ((export, export.folder), *((lite, lite.file) for lite in lites)):
        if form.view != view:
            raise UserError(
                f"{name} takes images of {form.view} and the runs of {view}: it was not made from these runs."
            )
    nodes = {member.node for member in members}
    if nodes != set(export.nodes):
        raise UserError(
            f"{export.folder} answers for {', '.join(export.nodes)}, and the runs are of {', '.join(sorted(nodes))}: "
            "it was not made from these runs."
        )
    if lites and export.views > 1:
        raise UserError(
            f"{export.folder} averages {export.views} views of an image, and a TFLite file sees one: compare the file "
            "with an export of one view."
        )
    runs = KerasRuns(members, export.views)
    # The SavedModel's signatures are forms of their own, as each has its own graph.
    size = sum(file.stat().st_size for file in export.folder.rglob("*") if file.is_file()) / 1e6
    saved = LIMITS["none"] if export.precision == "float32" else HALF_PRECISION
    forms = [Form("Keras runs", lambda image, png: runs.images(image), "soft", None, runs.megabytes)]
    for routing in ROUTINGS:
        answer = functools.partial(_of_file, export, routing)
        forms.append(Form(f"SavedModel {routing}", answer, routing, saved, size))
    forms.append(Form("SavedModel images", functools.partial(_of_pixels, export), "soft", saved, size))
    for lite in lites:
        quantize, answer = lite.card["quantize"], functools.partial(_of_pixels, lite)
        forms.append(Form(f"TFLite {quantize}", answer, "soft", LIMITS[quantize], lite.file.stat().st_size / 1e6))
    return forms


def _of_file(export, routing, image, png):
    return export.encoded([png], routing)["probabilities"]


def _of_pixels(form, image, png):
    return form.images(image)["probabilities"]


def measure(forms: list[Form], paths) -> tuple[list[Row], list[str]]:
    """Let every form, the runs first, answer for every image file.

    Returns a row for each form, and what is wrong with each file that could not be read; refuses if all are.
    """
    answers, seconds, errors = [[] for _ in forms], [[] for _ in forms], []
    for request in _requests(paths):
        if isinstance(request, UserError):
            errors.append(str(request))
            continue
        if not answers[0]:  # tracing and the first use of memory are not timed
            for form in forms:
                form.answer(*request)
        # The forms alternate on each image, so that all of them see the same state of the machine.
        for index, form in enumerate(forms):
            start = time.perf_counter()
            answers[index].append(form.answer(*request))
            seconds[index].append(time.perf_counter() - start)
    if not answers[0]:
        none = f"None of these {len(errors)} files is" if len(errors) > 1 else "This file is not"
        raise UserError(f"{none} an image that can be read: {errors[0]}")
    expected = {routing: np.concatenate([answer[routing] for answer in answers[0]]) for routing in ROUTINGS}
    found = [expected["soft"], *(np.concatenate(of_form) for of_form in answers[1:])]
    rows = [
        Row(form, compare(probabilities, expected[form.routing]), 1e3 * float(np.median(times)))
        for form, probabilities, times in zip(forms, found, seconds, strict=True)
    ]
    return rows, errors


def _requests(paths) -> Iterator:
    """Yield for each file what every form is called with, or the ``UserError`` that refuses it."""
    with bar(what="parity", total=len(paths)) as progress:
        for start in range(0, len(paths), THREADS):
            # Several are read at a time, but none while a form is timed, whose processors it would take.
            some = paths[start : start + THREADS]
            for request in list(read_ahead(some, lambda pixels: (pixels[None], as_png(pixels)), THREADS)):
                yield request
                progress.update()


def as_lines(rows: list[Row]) -> Iterator[str]:
    """Yield the table."""
    yield f"{'form':18} {'difference':>11} {'same label':>12} {'MB':>7} {'ms':>8}"
    for row in rows:
        form, agreement = row.form, row.agreement
        difference = "reference" if form.limit is None else f"{agreement.difference:.1e}"
        label = f"{agreement.same}/{agreement.count}"
        note = "" if row.holds else "  DISAGREES"
        yield f"{form.name:18} {difference:>11} {label:>12} {form.megabytes:7.1f} {row.milliseconds:8.1f}{note}"
