"""Several devices: all GPUs of a host, or several hosts that ``TF_CONFIG`` names.

Each device takes an equal part of every batch. Batch norm's statistics and dropout's masks are those of the whole
batch (see ``bach_keras.network``), so a training equals that of one device up to rounding.
"""

import contextlib
import functools
import json
import os

import keras
import tensorflow as tf

from bach_keras.recipe import Recipe
from bach_keras.training.stops import TrainingError
from datasets.errors import UserError

# What TensorFlow raises on a host whose fellow is gone.
LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError)


@functools.cache
def choose() -> tf.distribute.Strategy | None:
    """Return the strategy of this process, the same at every call; None for one device."""
    # Several hosts can only be joined before anything else uses TensorFlow's devices, so this is called first.
    if hosts() > 1:
        try:
            return tf.distribute.MultiWorkerMirroredStrategy()
        except (RuntimeError, ValueError, tf.errors.OpError) as error:
            raise UserError(
                f"The hosts that TF_CONFIG names cannot be joined ({error}): check it, start the same 'train' on each "
                "of them, and unset it for every other command."
            ) from error
    # A strategy for one device would only cost time.
    devices = accelerators()
    return tf.distribute.MirroredStrategy(devices) if len(devices) > 1 else None


def accelerators() -> list[str]:
    """Return the names of the GPUs that TensorFlow sees."""
    return [device.name for device in tf.config.list_logical_devices("GPU")]


def hosts() -> int:
    """Return how many hosts ``TF_CONFIG`` names, this one too; 1 without it."""
    try:
        # TensorFlow's own resolver takes what is not a cluster for one host, without a word.
        cluster = json.loads(os.environ.get("TF_CONFIG") or "{}").get("cluster", {})
        return max(1, sum(len(cluster.get(job, ())) for job in ("chief", "worker")))
    except (ValueError, AttributeError, TypeError) as error:
        raise UserError(
            f"TF_CONFIG cannot be read ({error}): give JSON with the 'cluster', the hosts' addresses, and the 'task', "
            "which of them this one is; or unset it to train on this host alone."
        ) from error


def count() -> int:
    """Return how many devices share each batch."""
    strategy = choose()
    return strategy.num_replicas_in_sync if strategy else 1


def in_words() -> str:
    """Return what to add to a line that says how a training is done; nothing for one device."""
    return (f", {count()} devices" if count() > 1 else "") + (f" on {hosts()} hosts" if across_hosts() else "")


def across_hosts() -> bool:
    """Return whether other hosts train with this one."""
    return isinstance(choose(), tf.distribute.MultiWorkerMirroredStrategy)


def is_chief() -> bool:
    """Return whether this host writes the run folder: the job ``chief``, or without one the first worker."""
    if not across_hosts():
        return True
    # Without a chief, TensorFlow gives the first worker its work.
    cluster = choose().cluster_resolver
    job = "chief" if "chief" in cluster.cluster_spec().jobs else "worker"
    return (cluster.task_type, cluster.task_id) == (job, 0)


@contextlib.contextmanager
def scope():
    """Build, compile and fit a network in this context; where another host is lost, this is a ``TrainingError``."""
    strategy = choose()
    try:
        with strategy.scope() if strategy else contextlib.nullcontext():
            yield
    except LOST as error:
        # TensorFlow's text goes on for screens, and the other host's own output says what happened.
        reason = " ".join(str(error).split())[:300]
        raise TrainingError(
            f"Another host was lost ({reason}): look at what it said, then start 'train --resume' on every host."
        ) from error


def wait() -> None:
    """Wait until every host is here."""
    if across_hosts():
        # A sum over all hosts is not there before the last of them adds to it.
        with scope():
            choose().reduce("SUM", tf.constant(1), axis=None)


def check(recipe: Recipe, devices: int) -> None:
    """Refuse a recipe that several devices cannot share."""
    if devices == 1:
        return
    # Uneven parts would weigh some images more than others in the averaged gradient.
    if recipe.batch_size % devices:
        raise UserError(
            f"--batch-size {recipe.batch_size} cannot be shared out evenly over {devices} devices: choose a multiple "
            f"of {devices}, or fewer GPUs by CUDA_VISIBLE_DEVICES."
        )
    if recipe.accumulate > 1:
        # Keras 3.15 synchronises the devices inside a condition, which TensorFlow refuses.
        raise UserError(
            f"--accumulate is for one device: {devices} devices compute a batch in {devices} parts as it is. Leave it "
            "out, or show one GPU by CUDA_VISIBLE_DEVICES."
        )
    if recipe.precision == "mixed_float16":
        # Keras 3.15 looks for overflow on each device alone, so one that has none would take in another's.
        raise UserError(
            f"--precision mixed_float16 is for one device, not {devices}: take mixed_bfloat16, which needs no loss "
            "scale, or show one GPU by CUDA_VISIBLE_DEVICES."
        )


def shared(model: keras.Model) -> keras.Model:
    """Return a functional model as ``fit`` takes it under the strategy, on the same layers."""
    # On one device Keras's own class needs none of the repairs below.
    return Shared(model.input, model.output, name=model.name) if choose() else model


class Shared(keras.Model):
    """A functional model that several devices train, where Keras 3.15 falls short."""

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        # Across hosts Keras fails to average the images, of which it only wants the shape.
        if iterator is not None:
            _, _, batches = next(iter(iterator))
            local = self.distribute_strategy.experimental_local_results
            data_batch = tuple(local(part)[0] for part in next(batches))
        super()._maybe_symbolic_build(data_batch=data_batch)

    def train_step(self, data):
        return _logs(super().train_step(data))

    def test_step(self, data):
        # The last batch may have no image for a device, and convolutions of none fail.
        step = super().test_step
        return _logs(tf.cond(tf.shape(data[0])[0] > 0, lambda: step(data), self.get_metrics_result))


def _logs(values: dict) -> dict:
    """Across hosts Keras averages each log over its first axis, which scalars lack."""
    return {name: value[None] for name, value in values.items()} if across_hosts() else values
