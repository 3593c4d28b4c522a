"""The training loss of a fixed set of examples, measured between steps without changing the model."""

import contextlib

import keras
import numpy as np
import tensorflow as tf


class Probe:
    """Measures the loss of the same examples repeatedly, as training computes it except for dropout.

    Batch norm takes the statistics of the batch, as in a step, and its running ones are restored; dropout is off,
    and everything else that is random draws the same numbers each time. So the measure depends on the weights alone.

    Args:
        examples: one batch, ``(x, y)`` or ``(x, y, sample_weight)``, or several: a list or a ``tf.data.Dataset``.
    """

    def __init__(self, examples):
        self.batches = [examples] if isinstance(examples, tuple) else list(examples)
        if not self.batches or not all(isinstance(batch, tuple) and len(batch) in (2, 3) for batch in self.batches):
            raise ValueError(
                "The probe holds no examples: give it a batch (x, y), or a list or tf.data.Dataset of them."
            )
        self._sizes = [len(tf.nest.flatten(batch)[0]) for batch in self.batches]
        if not all(self._sizes):
            raise ValueError("A batch of the probe is empty: give batches of at least one example.")
        self.forget()

    def forget(self):
        """Trace the model again at the next measure, as it may be compiled again or other layers frozen."""
        self._model = self._loss = self._seeds = None

    def measure(self, model) -> float:
        """Return the mean loss of the examples under the model's present weights."""
        if model is not self._model:
            self._trace(model)
        before = [(variable, variable.numpy()) for variable in model.non_trainable_variables]
        try:
            losses = []
            for number, batch in enumerate(self.batches):
                for state, value in self._seeds:
                    state.assign(value + np.array([0, number], value.dtype))
                losses.append(self._loss(batch))
            return float(np.average([float(loss) for loss in losses], weights=self._sizes))
        finally:
            for variable, value in before:
                variable.assign(value)

    def _trace(self, model):
        seeds = [variable for variable in model.non_trainable_variables if variable.name == "seed_generator_state"]
        self._seeds = [(variable, variable.numpy()) for variable in seeds]
        strategy = model.distribute_strategy

        def step(batch):
            x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
            with _without_dropout(model):
                answers = model(x, training=True)
            loss = model.compute_loss(x, y, answers, weight)
            # Keras divides a loss by the number of devices, each of which sees the complete batch here.
            return loss * strategy.num_replicas_in_sync

        def loss(batch):
            return strategy.experimental_local_results(strategy.run(step, (batch,)))[0]

        self._loss = loss if model.run_eagerly else tf.function(loss, reduce_retracing=True)
        self._model = model


@contextlib.contextmanager
def _without_dropout(model):
    """Switch dropout off in what is computed, or traced, in this context."""
    layers = [layer for layer in model._flatten_layers() if hasattr(layer, "seed_generator") and hasattr(layer, "rate")]
    rates = [layer.rate for layer in layers]
    try:
        for layer in layers:
            layer.rate = 0.0
        yield
    finally:
        for layer, rate in zip(layers, rates, strict=True):
            layer.rate = rate
