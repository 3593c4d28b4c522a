"""All forms of one tree on the same images: how far they agree, how large and how fast they are."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from bach_keras import preprocess
from bach_keras.hierarchy import check_members
from bach_keras.serving.agreement import Agreement, compare
from bach_keras.serving.images import as_png
from bach_keras.serving.predict import ROUTINGS, Export
from bach_keras.serving.tflite.convert import TFLite
from bach_keras.tree import NODES, ROOT, SPECIALISTS
from datasets.errors import UserError
from datasets.images.read import read_rgb


class KerasRuns:
    """The runs as Keras holds them: no trunk shared, no batch norm folded. The other forms are held against it.

    Args:
        members: ``bach_keras.hierarchy.Member`` objects of one image size, at least one for each node.
    """

    def __init__(self, members):
        self._members = members
        self._nodes = tf.function(self._answers)

    @property
    def megabytes(self) -> float:
        """The size of all weights."""
        return sum(4 * member.model.count_params() for member in self._members) / 1e6

    def images(self, images) -> dict[str, np.ndarray]:
        """Classify uint8 [N, H, W, 3]: the probabilities [N, 4] under each routing, ``soft`` and ``routed``."""
        first = self._members[0]
        squares = preprocess.square(images, first.image_size, first.stain_normalisation)
        nodes = {name: answer.numpy() for name, answer in self._nodes(squares).items()}
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
            name: self._average([member for member in self._members if member.node == name], inputs) for name in NODES
        }

    @staticmethod
    def _average(members, inputs):
        total = sum(member.weight for member in members)
        answers = [tf.nn.softmax(member.model(inputs, training=False) / member.temperature) for member in members]
        return tf.add_n([member.weight / total * answer for member, answer in zip(members, answers, strict=True)])


@dataclass(frozen=True)
class Form:
    """One form of the tree.

    Attributes:
        name: what to call it.
        answer: takes uint8 [1, H, W, 3] and the same as PNG, gives probabilities [1, 4], the runs of each routing.
        routing: which of the runs' answers it is held against.
        quantize: how its weights are kept, which says what it may differ by; None for the runs themselves.
        megabytes: its size on the disk.
    """

    name: str
    answer: Callable
    routing: str
    quantize: str | None
    megabytes: float


@dataclass(frozen=True)
class Row:
    """What was measured of one form: how it agrees with the runs, and the median time of an image."""

    form: Form
    agreement: Agreement
    milliseconds: float

    @property
    def holds(self) -> bool:
        return self.form.quantize is None or self.agreement.holds(self.form.quantize)


def open_forms(members, export: Export, files) -> list[Form]:
    """List the forms of a tree, the runs first.

    Raises:
        UserError: the runs make no tree, or a form takes images of another size than they.
    """
    check_members(members)
    runs, lites = KerasRuns(members), [TFLite(file) for file in files]
    for card, name in ((export.card, export.folder), *((lite.card, lite.file) for lite in lites)):
        if card["image_size"] != members[0].image_size:
            raise UserError(
                f"{name} takes images of {card['image_size']} pixels and the runs of {members[0].image_size}: "
                "it was not made of these runs."
            )
    size = sum(file.stat().st_size for file in export.folder.rglob("*") if file.is_file()) / 1e6

    return [
        Form("Keras runs", lambda image, png: runs.images(image), "soft", None, runs.megabytes),
        *(
            Form(
                f"SavedModel {routing}",
                lambda image, png, routing=routing: export.encoded([png], routing)["probabilities"],
                routing,
                "none",
                size,
            )
            for routing in ROUTINGS
        ),
        Form("SavedModel images", lambda image, png: export.images(image)["probabilities"], "soft", "none", size),
        *(
            Form(
                f"TFLite {lite.card['quantize']}",
                lambda image, png, lite=lite: lite.images(image)["probabilities"],
                "soft",
                lite.card["quantize"],
                lite.file.stat().st_size / 1e6,
            )
            for lite in lites
        ),
    ]


def measure(forms: list[Form], paths) -> tuple[list[Row], list[str]]:
    """Let every form answer for every image, one image and one form at a time, so that all see the same machine.

    Args:
        forms: the runs first.
        paths: image files.

    Returns:
        A row for each form, and what is wrong with each file that could not be read.

    Raises:
        UserError: none could.
    """
    answers, seconds, errors = [[] for _ in forms], [[] for _ in forms], []
    for path in paths:
        try:
            image = read_rgb(path)
        except ValueError as error:
            errors.append(str(error))
            continue
        request = image[None], as_png(image)
        if not answers[0]:  # tracing and first touches are not timed
            for form in forms:
                form.answer(*request)
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


def as_lines(rows: list[Row]) -> Iterator[str]:
    """Yield the table."""
    yield f"{'form':18} {'difference':>11} {'same label':>12} {'MB':>7} {'ms':>8}"
    for row in rows:
        form, agreement = row.form, row.agreement
        difference = "reference" if form.quantize is None else f"{agreement.difference:.1e}"
        label = f"{agreement.same}/{agreement.count}"
        note = "" if row.holds else "  DISAGREES"
        yield f"{form.name:18} {difference:>11} {label:>12} {form.megabytes:7.1f} {row.milliseconds:8.1f}{note}"
