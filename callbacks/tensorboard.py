"""A training in TensorBoard: scalars, rates, a range test, images and the model's answers.

TensorBoard itself is needed to look at the files, not to write them: ``pip install tensorboard``, then
``tensorboard --logdir DIR``.
"""

import io
import numbers
import os
import warnings
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw, ImageFont

from callbacks.answers import as_classes, as_pictures, as_probabilities, check_answers, choose_output

TEXT_HEIGHT = 18  # pixels
RIGHT, WRONG = (0, 110, 0), (190, 0, 0)


class TensorBoard(keras.callbacks.Callback):
    """Writes event files: ``DIR/train``, and ``DIR/validation`` for what Keras logs with the prefix ``val_``.

    Keras's callback of this name needs the tensorboard package to write, and shows neither groups nor answers.

    At each epoch's end it writes the logs under their own names and the learning rate of every group of layers.
    The number of epochs done is the step, so a resumed run continues its curves.

        >>> import keras, numpy as np
        >>> from callbacks.tensorboard import TensorBoard
        >>> images = np.zeros((4, 8, 8), np.uint8)
        >>> layers = [keras.Input((8, 8)), keras.layers.Flatten(), keras.layers.Dense(2, activation="softmax")]
        >>> model = keras.Sequential(layers)
        >>> model.compile("sgd", "sparse_categorical_crossentropy")
        >>> board = TensorBoard("logs", images=images, class_names=("benign", "malignant"))
        >>> history = model.fit(images, np.zeros(4), verbose=0, callbacks=[board])

    Args:
        log_dir: folder of the event files; other files in it stay.
        groups: name of a group of layers -> multiplier of the rate.
        images: some to show with the model's answers, [n, height, width], or with 1, 3 or 4 channels: uint8, or
            floats of 0 to 1 or of 0 to 255.
        labels: their classes, as numbers, names or one-hot; none if not given.
        class_names: in the order of the model's outputs; for one sigmoid first what 0 and then what 1 means.
        preprocess: turns ``images`` into the model's inputs, if they differ.
        from_logits: whether the model answers logits, and not probabilities.
        image_epochs: show the images in the first epoch and every so many epochs after it.
        output: which of the model's outputs to show, by key or place, where it has several; also the key of labels
            given as a dict.
    """

    def __init__(
        self,
        log_dir: str | os.PathLike,
        groups: Mapping[str, float] | None = None,
        *,
        images: np.ndarray | None = None,
        labels: Sequence | Mapping | None = None,
        class_names: Sequence[str] = (),
        preprocess: Callable | None = None,
        from_logits: bool = False,
        image_epochs: int = 5,
        output: str | int | None = None,
    ):
        super().__init__()
        class_names = tuple(map(str, class_names))
        if images is not None and not class_names:
            raise ValueError("Images are shown with the names of their classes: give class_names.")
        if images is not None and len(class_names) == 1:
            raise ValueError(
                f"class_names has {class_names[0]!r} alone: give the names of all classes, for one sigmoid first what "
                "0 and then what 1 means."
            )
        if labels is not None and images is None:
            raise ValueError(f"There are {len(labels)} labels and no images: give one for each image.")
        if not isinstance(image_epochs, numbers.Integral) or image_epochs < 1:
            raise ValueError(f"image_epochs is {image_epochs!r}: it must be a whole number of at least 1.")
        self.log_dir = os.fspath(log_dir)
        self.groups = dict(groups or {})
        self.images = images
        self.output = output
        self.class_names = class_names
        self._pictures = None if images is None else as_pictures(images)
        self.labels = None if labels is None else as_classes(labels, len(self._pictures), class_names, output)
        self.preprocess = preprocess or (lambda given: given)
        self.from_logits = from_logits
        self.image_epochs = image_epochs
        self._writers = {}

    def on_train_begin(self, logs=None):
        if self.images is not None:
            self._check()

    def on_epoch_end(self, epoch, logs=None):
        step = epoch + 1
        values = dict(logs or {})
        optimizer = getattr(self.model, "optimizer", None)
        if "learning_rate" not in values and optimizer is not None:
            rate = optimizer.learning_rate
            values["learning_rate"] = float(rate.numpy() if hasattr(rate, "numpy") else rate)  # of a function a float
        for name, multiplier in self.groups.items():
            if "learning_rate" in values:
                values[f"learning_rate/{name}"] = values["learning_rate"] * multiplier
        for name, value in values.items():
            self._write_scalar(
                "validation" if name.startswith("val_") else "train", name.removeprefix("val_"), value, step
            )
        if self.images is not None and epoch % self.image_epochs == 0:
            self._show_answers(step)
        self._flush()

    def on_train_end(self, logs=None):
        for writer in self._writers.values():
            writer.close()
        self._writers = {}

    def write_range_test(self, test, name: str = "lr_range_test"):
        """Write the picture and the curves, by the sweep's steps, of a readable ``LRRangeTest`` as a group of plots."""
        result = test.result()
        for step, (rate, value) in enumerate(zip(result["rates"], result["smoothed"], strict=True)):
            self._write_scalar("train", f"{name}/learning_rate", rate, step)
            self._write_scalar("train", f"{name}/{result['metric']}", value, step)
        self._write_png("train", f"{name}/curve", test.png(), 0)
        self._flush()

    def _show_answers(self, step: int):
        try:
            png = contact_sheet(self._pictures, self.captions())
        except ValueError as error:  # on_train_begin has refused what could never be shown
            # A training must not end for its pictures.
            warnings.warn(f"No more answers are shown: {error}", stacklevel=2)
            self.images = None
            return
        self._write_png("validation", "answers", png, step)

    def captions(self) -> list[tuple[str, tuple[int, int, int]]]:
        """Return the model's present answer to each image, and its colour: green if right, red if wrong."""
        captions = []
        for index, probabilities in enumerate(self._probabilities()):
            answer = int(np.argmax(probabilities)) if np.isfinite(probabilities).all() else None
            words = ["no answer: NaN" if answer is None else f"{self.class_names[answer]} {probabilities[answer]:.2f}"]
            colour = (0, 0, 0)
            if self.labels is not None:
                words.append(f"is {self.class_names[self.labels[index]]}")
                colour = RIGHT if answer == self.labels[index] else WRONG
            captions.append(("\n".join(words), colour))
        return captions

    def _probabilities(self) -> np.ndarray:
        outputs = self.model(self.preprocess(self.images), training=False)
        names = getattr(self.model, "output_names", None) or ()
        values = choose_output(outputs, len(self._pictures), names, self.output)
        check_answers(values, self.class_names, self.from_logits)
        return as_probabilities(values, self.from_logits)

    def _check(self):
        """Refuse what would be shown wrongly, before the first epoch."""
        loss = getattr(self.model, "loss", None)
        said = getattr(loss.get(self.output) if isinstance(loss, Mapping) else loss, "from_logits", None)
        if said is not None and bool(said) != self.from_logits:
            raise ValueError(
                f"The model's loss says from_logits={bool(said)} and this callback from_logits={self.from_logits}: "
                "give both the same value."
            )
        self._probabilities()

    def _writer(self, name: str):
        if name not in self._writers:
            self._writers[name] = tf.summary.create_file_writer(os.fsencode(os.path.join(self.log_dir, name)))
        return self._writers[name].as_default()

    def _write_scalar(self, writer: str, tag: str, value: float, step: int):
        with self._writer(writer):
            tf.summary.write(tag, np.float32(value), step, _metadata("scalars", "DATA_CLASS_SCALAR"))

    def _write_png(self, writer: str, tag: str, png: bytes, step: int):
        width, height = Image.open(io.BytesIO(png)).size
        with self._writer(writer):
            parts = tf.constant([str(width), str(height), png])
            tf.summary.write(tag, parts, step, _metadata("images", "DATA_CLASS_BLOB_SEQUENCE"))

    def _flush(self):
        for writer in self._writers.values():
            writer.flush()


def contact_sheet(images: np.ndarray, captions: Sequence[tuple[str, tuple[int, int, int]]]) -> bytes:
    """Draw images, uint8 [n, height, width, 3], in rows as a PNG, each above its caption of at most two lines."""
    count, height, width = images.shape[:3]
    columns = int(np.ceil(np.sqrt(count)))
    # Cells are wide enough for a caption even where images are small.
    cell_width, cell_height = max(width, 160) + 4, height + 2 * TEXT_HEIGHT + 4
    sheet = Image.new("RGB", (columns * cell_width, -(-count // columns) * cell_height), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(TEXT_HEIGHT - 4)
    for index, (image, (text, colour)) in enumerate(zip(images, captions, strict=True)):
        left, top = index % columns * cell_width, index // columns * cell_height
        sheet.paste(Image.fromarray(image), (left, top))
        draw.text((left, top + height), text, colour, font)
    file = io.BytesIO()
    sheet.save(file, "png", compress_level=1)
    return file.getvalue()


def _metadata(plugin: str, data_class: str):
    metadata = tf.compat.v1.SummaryMetadata(data_class=data_class)
    metadata.plugin_data.plugin_name = plugin
    return metadata
