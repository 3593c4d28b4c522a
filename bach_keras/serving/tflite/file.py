"""A TFLite file of the tree, read and run by LiteRT on the processor."""

import os
import threading
import zipfile
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from bach_keras.fields import MAX_BYTES, FieldError, parse_object
from bach_keras.preprocess import View
from bach_keras.quiet import filtered
from bach_keras.serving.agreement import LIMITS
from bach_keras.serving.card import CARD, calibration_of
from datasets.errors import UserError
from datasets.images.admission import NotTakenError, check_size

QUANTIZATIONS = tuple(LIMITS)

PROCESSORS = os.cpu_count() or 1


class TFLite:
    """A TFLite file that ``convert`` wrote; threads may share one object.

    Its card holds ``quantize`` and what an export's holds. The file has no place for thresholds, so ``images`` takes
    them from there.
    """

    def __init__(self, file: str | os.PathLike):
        self.file = Path(file)
        try:
            self.card = _card(self.file)
            with filtered():
                interpreter = Interpreter(os.fsencode(self.file), num_threads=PROCESSORS)
                interpreter.allocate_tensors()  # LiteRT's start-up line comes now, and not with the first answer
            self._run = interpreter.get_signature_runner()
            (taken,) = interpreter.get_input_details()
            _, size, *_ = map(int, taken["shape"])
            self.calibration = calibration_of(self.card)
            is_ours = self.card["image_size"] == size and self.card["quantize"] in QUANTIZATIONS
        except Exception as error:  # zipfile and LiteRT raise nearly anything for a damaged file
            raise UserError(f"{file} is not a TFLite file of this project: make one with 'export --tflite'.") from error
        if not is_ours:
            raise UserError(f"{file} does not match its own card: make it again with 'export --tflite'.")
        self.view = View(size)
        # An interpreter has one place for its input and one for its answer.
        self._lock = threading.Lock()

    def images(self, images) -> dict[str, np.ndarray]:
        """Classify uint8 [N, H, W, 3], N > 0, softly; returns what ``Hierarchy.images`` does, without ``label``."""
        squares = self.view.square(_as_batch(images)).numpy()
        answers = [self._answer(square[None]) for square in squares]
        joined = {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}
        if self.calibration:
            joined |= {name: each.numpy() for name, each in self.calibration.doubt(joined["probabilities"]).items()}
        return joined

    def _answer(self, square):
        with self._lock:
            return self._run(images=square)


def _card(file: Path) -> dict:
    with zipfile.ZipFile(file) as archive, archive.open(CARD) as card:
        content = card.read(MAX_BYTES + 1)  # a few bytes may inflate to any number
    if len(content) > MAX_BYTES:
        raise FieldError(f"{CARD} is larger than {MAX_BYTES} bytes")
    return parse_object(content)


def _as_batch(images) -> np.ndarray:
    try:
        images = np.asarray(images)
    except ValueError:  # a list of several sizes
        images = np.empty(0, object)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or not images.size:
        raise UserError(
            f"Images must be uint8 [N, H, W, 3], all of one size, but these are {images.dtype} {list(images.shape)}: "
            "pass one image as images[None]."
        )
    height, width = images.shape[1:3]
    try:
        check_size(width, height)
    except NotTakenError as error:
        raise UserError(f"The image {error}.") from error
    return images
