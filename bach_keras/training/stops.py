"""What ends a training before its last epoch."""

import math

import keras


class TrainingError(RuntimeError):
    """A training that began and cannot go on; its message is one sentence for the user."""


class StopAtDivergence(keras.callbacks.Callback):
    """Stops at the first step whose loss is no number, before that epoch's weights are kept.

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
        if math.isfinite(logs["loss"]):
            return
        rate = float(self.model.optimizer.learning_rate)
        there = (self.folder / "snapshots" / "best.weights.h5").is_file()
        kept = f"the last good weights are {self.folder}/snapshots/best" if there else "no epoch was whole before it"
        raise TrainingError(
            f"The training of {self.folder} diverged: the loss is {logs['loss']} at step {batch + 1} of {self.steps} "
            f"of epoch {self._epoch + 1}, at a rate of {rate:.3g}; {kept}. Train anew with a lower --lr."
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
