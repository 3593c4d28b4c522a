"""Whether half precision pays on the machine at hand: measured once, on convolutions of the network's own shapes."""

import logging
import os
import platform
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from bach_keras.fields import NOTHING, OBJECT, check, number, read_object
from bach_keras.network.convolution import has_native_grouped_convolution
from bach_keras.quiet import filtered
from datasets.ahead import processors
from datasets.errors import UserError
from datasets.whole import write_json

LOG = logging.getLogger(__name__)

# Half precision must take at most this share of float32's time: below, the rounding buys nothing.
PAYS = 0.8

ROUNDS, IMAGES = 7, 10

# (side of the map, side of the kernel, channels in, channels out, groups), as the second and third stage have them.
_CONVOLUTIONS = ((28, 1, 512, 256, 1), (28, 3, 256, 256, 32), (14, 1, 1024, 512, 1), (14, 3, 512, 512, 32))

_MILLISECONDS = number(1e-6, 1e6)


@dataclass(frozen=True)
class Probe:
    """The milliseconds that the same convolutions take in each type; None in a type that they cannot be computed in."""

    processor: str
    float32: float
    bfloat16: float | None
    float16: float | None

    @property
    def best(self) -> str:
        """The type to take: bfloat16 where it pays, as it trains without loss scaling, else float32."""
        return "bfloat16" if self.bfloat16 is not None and self.bfloat16 <= PAYS * self.float32 else "float32"

    def __str__(self):
        times = [f"{name} {self._time(name)}" for name in ("float32", "bfloat16", "float16")]
        return f"convolutions on {self.processor}: {', '.join(times)}; {self.best} is taken"

    def warning(self, precision: str) -> str:
        """Return why a type should not be served from this machine, or ""."""
        taken = getattr(self, precision)
        if taken is not None and taken <= self.float32:
            return ""
        return (
            f"WARNING: this model computes in {precision}, which is slow on {self.processor} (convolutions "
            f"{self._time(precision)}, in float32 {self._time('float32')}): export it with --precision float32."
        )

    def _time(self, name: str) -> str:
        taken = getattr(self, name)
        return "not at all" if taken is None else f"{taken:.1f} ms"


def probe(cache: Path | None = None) -> Probe:
    """Return what was measured on this machine, by this TensorFlow; it is measured if that was not done yet.

    Args:
        cache: the file that keeps it, by default in the user's cache (XDG_CACHE_HOME, else ~/.cache).
    """
    cache, machine = cache or _default_cache(), _machine()
    kept = _read(cache)
    if machine not in kept:
        with filtered():
            kept[machine] = _measured()
        try:
            cache.parent.mkdir(parents=True, exist_ok=True)
            write_json(cache, kept)
        except OSError as error:
            LOG.warning(f"{cache} cannot be written, so half precision is measured again each time: {error}")
    return Probe(_processor(), **kept[machine])


def _default_cache() -> Path:
    folder = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(folder) / "bach_keras" / "half_precision.json"


def _read(cache: Path) -> dict[str, dict]:
    """Return machine -> what was measured there; a file that says anything else is measured again."""
    try:
        kept = read_object(cache)
        for found in kept.values():
            check({"found": found}, {"found": OBJECT}, {})
            check(
                found, {"float32": _MILLISECONDS} | dict.fromkeys(("bfloat16", "float16"), _MILLISECONDS | NOTHING), {}
            )
    except (OSError, UserError):
        return {}
    return kept


def _machine() -> str:
    """Return what the measurement depends on, as one line."""
    # Without oneDNN the same machine is another one.
    onednn = os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1")
    return f"{_processor()}, {processors()} cores, TensorFlow {tf.__version__}, oneDNN {onednn}"


def _processor() -> str:
    if gpus := tf.config.get_visible_devices("GPU"):
        return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "The GPU")
    try:
        named = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        named = None
    return named[1].strip() if named else platform.processor() or platform.machine()


def _measured() -> dict[str, float | None]:
    runs = {"float32": _run(tf.float32)}
    # Training is to take bfloat16 too, and float16 is for inference alone.
    for dtype, gradients in ((tf.bfloat16, True), (tf.float16, False)):
        if has_native_grouped_convolution(dtype, gradients):
            runs[dtype.name] = _run(dtype)
    # The types alternate, so that a drift of the machine's speed affects both; the first round is a warm-up.
    rounds = [{name: _milliseconds(run) for name, run in runs.items()} for _ in range(1 + ROUNDS)][1:]
    return {"bfloat16": None, "float16": None} | {
        name: statistics.median(taken[name] for taken in rounds) for name in runs
    }


def _run(dtype) -> Callable:
    """Return what runs the convolutions once in a type and waits for them."""
    given = [
        (tf.ones((IMAGES, side, side, depth), dtype), tf.ones((size, size, depth // groups, filters), dtype))
        for side, size, depth, filters, groups in _CONVOLUTIONS
    ]

    @tf.function
    def sums(*pairs):
        # The sums keep TensorFlow from leaving out what nobody looks at.
        return tf.add_n([tf.reduce_sum(tf.nn.conv2d(images, kernel, 1, "SAME")) for images, kernel in pairs])

    return lambda: sums(*given).numpy()


def _milliseconds(run) -> float:
    start = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - start)
