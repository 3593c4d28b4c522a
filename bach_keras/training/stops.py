"""What ends a training before its last epoch."""

import contextlib
import math

import keras
import tensorflow as tf


class TrainingError(RuntimeError):
    """A training that began and cannot go on; its message is one sentence for the user."""


@contextlib.contextmanager
def writing(folder):
    """Write a run's files in this context.

    Raises:
        TrainingError: they could not be written.
    """
    try:
        yield
    except (OSError, RuntimeError, tf.errors.OpError) as error:  # h5py raises either when a disk is full
        if isinstance(error, TrainingError):
            raise
        raise TrainingError(
            f"{folder} could not be written ({' '.join(str(error).split())}): make room on the disk, then go on with "
            "'train --resume'."
        ) from error


class StopAtDivergence(keras.callbacks.Callback):
    """Stops at the first step whose loss is no number, before that epoch's weights are kept.

    A step's loss is that before its update. So at an epoch's end the weights, too, must be numbers.

    Args:
        folder: the run's folder, for the message.
        steps: steps an epoch.
    """

    def __init__(self, folder, steps: int):
        super().__init__()
        self.folder, self.steps = folder, steps
        self._epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if not math.isfinite(logs["loss"]):
            self._stop(f"the loss is {logs['loss']} at step {batch + 1} of {self.steps}")

    def on_epoch_end(self, epoch, logs=None):
        weights = [tf.reduce_all(tf.math.is_finite(weight)) for weight in self.model.trainable_variables]
        if not tf.reduce_all(weights):
            self._stop(f"weights are no numbers after step {self.steps} of {self.steps}")

    def _stop(self, what: str):
        rate = float(self.model.optimizer.learning_rate)
        there = (self.folder / "snapshots" / "best.weights.h5").is_file()
        kept = f"the last good weights are {self.folder}/snapshots/best" if there else "no epoch was whole before it"
        raise TrainingError(
            f"The training of {self.folder} diverged: {what} of epoch {self._epoch + 1}, at a rate of {rate:.3g}; "
            f"{kept}. Train anew with a lower --lr."
        )


class StopAtLoss(keras.callbacks.Callback):
    """Stops after the first epoch whose training loss is as low as another run's (Koné & Boulmane 2018, section 5).

    Args:
        loss: the training loss to reach.
        progress: is told in ``progress.reached`` that it was.
    """

    def __init__(self, loss: float, progress):
        super().__init__()
        self.loss, self.progress = loss, progress

    def on_epoch_end(self, epoch, logs=None):
        if logs["loss"] <= self.loss:
            self.progress.reached = True
            self.model.stop_training = True
