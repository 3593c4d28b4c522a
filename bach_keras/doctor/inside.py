"""What is tried inside TensorFlow, as a program of its own: an import may crash or hang, and takes its process along.

Each step prints one JSON object on stdout, before the next one begins.
"""

import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bach_keras.doctor.finding import in_a_line

# Seconds that reading records may take; what is left over is for `data verify`.
READING = 3.0


def start(given: dict) -> dict:
    import tensorflow as tf

    gpus = map(tf.config.experimental.get_device_details, tf.config.list_physical_devices("GPU"))
    return {
        "version": tf.__version__,
        "gpus": [f"{gpu.get('device_name', 'a GPU')} {gpu.get('compute_capability', '')}" for gpu in gpus],
        "has_cuda": tf.test.is_built_with_cuda(),
        "cuda": str(tf.sysconfig.get_build_info().get("cuda_version", "")),
    }


def records(given: dict) -> dict:
    """Read the records of each set, whose checksums TensorFlow compares, for as long as there is time."""
    until = time.monotonic() + READING
    return {"sets": {config: _read(files, until) for config, files in given["sets"].items()}}


def _read(files: list[str], until: float) -> dict:
    import tensorflow as tf

    count = 0
    for file in files:
        try:
            for _ in tf.data.TFRecordDataset(file):
                count += 1
                if time.monotonic() > until:
                    return {"read": count, "complete": False, "damaged": ""}
        except tf.errors.OpError as error:
            # The names of TensorFlow's own operations around it tell a user nothing.
            reason = re.sub(r"\{\{.*?\}\}|\[Op:.*", "", error.message).strip()[:200]
            return {"read": count, "complete": False, "damaged": f"{Path(file).name} ({reason})"}
    return {"read": count, "complete": True, "damaged": ""}


def keras(given: dict) -> dict:
    import keras

    return {
        "version": keras.__version__,
        "backend": keras.config.backend(),
        "image_data_format": keras.config.image_data_format(),
        "floatx": keras.config.floatx(),
    }


def convolutions(given: dict) -> dict:
    import tensorflow as tf

    from bach_keras.network.convolution import has_native_grouped_convolution

    return {"native": has_native_grouped_convolution(tf.float32)}


def half_precision(given: dict) -> dict:
    from bach_keras.network.half_precision import probe

    found = probe()
    return {"best": found.best, "said": str(found)}


def weights(given: dict) -> dict:
    """Read each file of weights that has a default place, if it is there."""
    from bach_keras.network.published import HISTOLOGY
    from bach_keras.network.weights import default_path
    from bach_keras.normalisation import IMAGENET

    return {"files": {kind: _weights(default_path(kind)) for kind in (IMAGENET, HISTOLOGY)}}


def _weights(path: Path) -> dict:
    from bach_keras.network.held import Held
    from bach_keras.network.published import published_as
    from bach_keras.network.resnext import resnext50
    from bach_keras.network.weights import torch_shapes, trained_tensors
    from datasets.errors import UserError

    if not path.exists():
        return {"path": str(path), "is_there": False}
    try:
        model = resnext50((None, None, 3))
        held = Held.open(path, torch_shapes(model))
        trained_tensors(held, model)  # refuses a wrong shape, NaN, infinity, and numbers that changed
    except (UserError, OSError) as error:
        return {"path": str(path), "is_there": True, "wrong": " ".join(str(error).split())}
    said = held.checkpoint.said
    sha256 = said.get("source_sha256", "")
    known = published_as(sha256)
    return {
        "path": str(path), "is_there": True, "wrong": "", "source": known.name if known else "", "sha256": sha256,
        "has_digest": "tensors_sha256" in said,
    }  # fmt: skip


def export(given: dict) -> dict:
    """Open the export and let it answer, if one is named."""
    if not given["model"]:
        return {}
    import numpy as np

    from bach_keras.serving.card import DECODING
    from bach_keras.serving.exported import Export
    from datasets.errors import UserError

    try:
        began = time.monotonic()
        opened = Export(given["model"])
        loaded = time.monotonic()
        if "index" in opened.card:
            _ = opened.index  # compares its digest
        pixels = np.random.default_rng(0).integers(0, 256, (2, opened.side, opened.side, 3), np.uint8)
        answers = opened.classify([opened.prepared(each) for each in pixels])
    except (UserError, OSError) as error:
        return {"wrong": " ".join(str(error).split())}
    sums = answers["probabilities"].numpy().sum(axis=1)
    is_sane = bool(answers["ok"].numpy().all()) and bool(np.allclose(sums, 1, atol=1e-3))
    return {
        "wrong": "" if is_sane else "its probabilities do not add up to 1",
        "folder": str(opened.folder), "digest": opened.digest, "kind": opened.card.get("kind", "system"),
        "image_size": opened.side, "precision": opened.precision, "configs": list(opened.configs),
        "decoding": opened.card.get("decoding", 1), "newest": DECODING, "warnings": list(opened.warnings),
        "load_s": loaded - began, "answer_s": time.monotonic() - loaded,
    }  # fmt: skip


STEPS: tuple[Callable[[dict], dict], ...] = (start, records, keras, convolutions, half_precision, weights, export)


def main(given: dict) -> None:
    from bach_keras.quiet import quiet_tensorflow

    quiet_tensorflow()
    for step in STEPS:
        began = time.monotonic()
        try:
            found = step(given)
        except Exception as error:  # whatever is broken here is what is wanted to be known
            found = {"error": in_a_line(error)}
        line = {"step": step.__name__, "seconds": time.monotonic() - began, **found}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
