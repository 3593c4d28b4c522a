"""What a range test sweeps: which models and data it takes, and how the model is restored afterwards."""

import itertools
import operator

import keras
import tensorflow as tf

EMPTY = "The data for the range test is empty: it holds no batch for a step."


class ModelState:
    """A model's variables and optimizer as they are now, to be restored after a sweep."""

    def __init__(self, model):
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        self._model = model
        self._values = [(variable, variable.numpy()) for variable in (*model.variables, *model.optimizer.variables)]
        self._undo = []

    def make_rate_settable(self, rate: float):
        """Give the optimizer a rate that can be set, where its own is a schedule or a function."""
        model, optimizer = self._model, self._model.optimizer
        while hasattr(optimizer, "inner_optimizer"):
            optimizer = optimizer.inner_optimizer
        own = getattr(optimizer, "_learning_rate", None)
        if own is None or isinstance(own, keras.Variable):
            return
        with model.distribute_strategy.scope():
            settable = keras.Variable(rate, trainable=False, name="learning_rate")
        optimizer._learning_rate = settable

        def undo():
            optimizer._learning_rate = own
            optimizer._untrack_variable(settable)
            model.train_function = None

        self._undo.append(undo)
        # The function that was traced before holds the schedule.
        model.make_train_function(force=True)

    def guard_steps(self, check):
        """Restore the model where an error, or Ctrl-C, ends a step or the ``check`` that is called right before it."""
        model, step = self._model, self._model.train_function

        def guarded(iterator):
            try:
                check()
                return step(iterator)
            except (StopIteration, tf.errors.OutOfRangeError):
                raise  # the end of the data
            except BaseException:
                self.restore()
                raise

        def undo():
            model.train_function = step

        self._undo.append(undo)
        model.train_function = guarded

    def restore(self):
        """Restore the model and its optimizer."""
        for variable, value in self._values:
            variable.assign(value)
        while self._undo:
            self._undo.pop()()
        self._model.reset_metrics()
        self._model.stop_training = False


def check_model(model):
    """Refuse a model that cannot be swept."""
    if not getattr(model, "compiled", False):
        raise ValueError("The range test needs a loss and an optimizer: compile the model first.")
    if getattr(getattr(model, "optimizer", None), "learning_rate", None) is None:
        raise ValueError(
            "The range test sets the rate of model.optimizer, and this model's has none: compile it with a Keras "
            "optimizer."
        )
    if model.steps_per_execution != 1:
        raise ValueError(
            "The range test sets the rate of every step: compile the model with steps_per_execution=1, "
            f"not {model.steps_per_execution}."
        )
    if not model.built:
        raise ValueError("The range test saves and restores the model's variables: build the model first.")
    if not model.trainable_variables:
        raise ValueError("The range test needs a model that trains, and every layer of this one is frozen.")


def repeated(dataset, steps: int) -> tuple[object, dict]:
    """Return data of at least so many steps, where it can be repeated, and the arguments of ``fit`` for its length."""
    if isinstance(dataset, tf.data.Dataset):
        if int(dataset.cardinality()) == 0:
            raise ValueError(EMPTY)
        return dataset.repeat(), {"steps_per_epoch": steps}
    if isinstance(dataset, keras.utils.PyDataset):
        length = dataset.num_batches
        if length == 0:
            raise ValueError(EMPTY)
        return dataset, {"steps_per_epoch": steps} if length is None else {"epochs": -(-steps // length)}
    if hasattr(dataset, "__next__"):
        first = list(itertools.islice(dataset, 1))
        if not first:
            raise ValueError(EMPTY)
        # Keras takes no other iterators than generators.
        return (batch for batch in itertools.chain(first, dataset)), {"steps_per_epoch": steps}
    raise ValueError(
        f"The range test cannot take batches from {type(dataset).__name__}: give it a batched tf.data.Dataset, "
        "a keras.utils.PyDataset or a generator."
    )


def not_finite_batch(batches, count: int) -> str:
    """Return a sentence about the first of some batches that holds NaN or infinity; "" if none does."""
    for place, batch in enumerate(batches.take(count), 1):
        for part in tf.nest.flatten(batch):
            if part.dtype.is_floating and not tf.reduce_all(tf.math.is_finite(getattr(part, "values", part))):
                return (
                    f"The data holds NaN or infinite values, in batch {place}, so the range test cannot be read: "
                    "clean the data."
                )
    return ""


def number(value, name: str) -> float:
    """Return a setting as a float."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} is {value!r}: it must be a number.") from None


def whole(value, name: str) -> int:
    """Return a setting as an int."""
    try:
        return operator.index(value)
    except TypeError:
        raise ValueError(f"{name} is {value!r}: it must be a whole number.") from None
