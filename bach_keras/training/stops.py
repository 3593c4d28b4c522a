"""What ends a training before its last epoch."""

import contextlib
import math

import keras
import tensorflow as tf

from bach_keras.run_folder import Run
from datasets.errors import WorkError


class TrainingError(WorkError):
    """A training that began and cannot continue."""


class Interrupted(KeyboardInterrupt):
    """A training that Ctrl-C or SIGTERM ended, with a sentence on what is kept and one on how to resume."""

    def __init__(self, kept: str, resume: str, cause: KeyboardInterrupt):
        super().__init__(kept, resume, cause)  # all that another process needs to make it again
        self.kept, self.resume, self.cause = kept, resume, cause

    def __str__(self):
        return f"{self.kept} {self.resume}"


@contextlib.contextmanager
def writing(folder):
    """Write a run's files in this context; what cannot be written becomes a ``TrainingError``."""
    try:
        yield
    except (OSError, RuntimeError, tf.errors.OpError) as error:  # h5py raises either when a disk is full
        if isinstance(error, TrainingError):
            raise
        raise TrainingError(
            f"{folder} could not be written ({' '.join(str(error).split())}): make room on the disk, then "
            "resume it with 'train --resume'."
        ) from error


class StopAtDivergence(keras.callbacks.Callback):
    """Stops at the first step whose loss is NaN or infinite, before that epoch's weights are kept."""

    def __init__(self, run: Run, steps: int):
        super().__init__()
        self.run, self.steps = run, steps
        self._epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if not math.isfinite(logs["loss"]):
            self._stop(f"the loss is {logs['loss']} at step {batch + 1} of {self.steps}")

    def on_epoch_end(self, epoch, logs=None):
        # The loss of a step is computed before its update, and by the batch's own statistics. So the weights and the
        # running statistics of batch norm are looked at too, before they are kept.
        where = f"after step {self.steps} of {self.steps}"
        trained = {id(weight) for weight in self.model.trainable_weights}
        spoilt = [weight for weight in self.model.weights if not _all_are_finite(weight)]
        if any(id(weight) in trained for weight in spoilt):
            self._stop(f"the weights contain NaN or infinity {where}")
        if spoilt:
            self._stop(f"the statistics of batch norm contain NaN or infinity ({_named(spoilt)}) {where}")
        variances = [getattr(layer, "moving_variance", None) for layer in self.model._flatten_layers()]
        negative = [each for each in variances if each is not None and float(tf.reduce_min(each)) < 0]
        if negative:
            self._stop(f"variances of batch norm are below 0 ({_named(negative)}) {where}")

    def _stop(self, what: str):
        # On several devices the rate must become an array before it can become a number.
        rate = float(self.model.optimizer.learning_rate.numpy())
        folder = self.run.folder
        kept = f"the last good weights are {folder}/snapshots/best"
        kept = kept if "best" in self.run.snapshots else "no epoch was complete before it"
        raise TrainingError(
            f"The training of {folder} diverged: {what} of epoch {self._epoch + 1}, at a rate of {rate:.3g}; "
            f"{kept}. Train again with a lower --lr."
        )


def _all_are_finite(weight) -> bool:
    value = tf.convert_to_tensor(weight)
    return not value.dtype.is_floating or bool(tf.reduce_all(tf.math.is_finite(value)))


def _named(weights) -> str:
    return ", ".join(weight.path for weight in weights[:3]) + (", ..." if len(weights) > 3 else "")


class StopAfter(keras.callbacks.Callback):
    """Stops after a phase's last epoch, as ``fit`` gets the number of all the run's epochs."""

    def __init__(self, epochs: int):
        super().__init__()
        self.epochs = epochs

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 == self.epochs:
            self.model.stop_training = True


class StopAtLoss(keras.callbacks.Callback):
    """Stops after the first epoch whose training loss is as low as another run's (Koné & Boulmane 2018, section 5).

    ``progress.reached`` then says so.
    """

    def __init__(self, loss: float, progress):
        super().__init__()
        self.loss, self.progress = loss, progress

    def on_epoch_end(self, epoch, logs=None):
        if logs["loss"] <= self.loss:
            self.progress.reached = True
            self.model.stop_training = True
