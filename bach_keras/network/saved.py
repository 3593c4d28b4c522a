"""The weights of a network that Keras saved, read into one that is already built.

``keras.saving.load_model`` builds what the file names, and runs what that holds. Here the network is built from the
run's recipe, and the file gives numbers alone, after names, types and shapes were found to be the network's.
"""

import io
import json
import re
from collections import Counter
from pathlib import Path

import h5py
import numpy as np

from bach_keras.fields import parse_object
from bach_keras.network.archive import members, open_archive, read_member
from bach_keras.network.h5 import plain_dataset
from bach_keras.network.tensors import RefusedError, naming
from bach_keras.network.weights import check_numbers

# What HDF5 and Keras's words take in addition to the numbers.
_SPARE = 2**24
_MAX_WORDS = 2**20


def read_keras(model, path: Path) -> None:
    """Fill a network from the ``model.keras`` of an equal one."""
    with naming(path), path.open("rb") as file, open_archive(file) as archive:
        there = members(archive)
        if not {"config.json", "model.weights.h5"} <= set(there):
            raise RefusedError("is a zip archive, but not a model that Keras saved")
        _check_config(model, parse_object(read_member(archive, there["config.json"], _MAX_WORDS)))
        most = 4 * model.count_params() + _SPARE
        numbers = _numbers(model, io.BytesIO(read_member(archive, there["model.weights.h5"], most)))
    _fill(model, numbers, path)


def read_weights(model, path: Path) -> None:
    """Fill a network from the ``.weights.h5`` of an equal one."""
    with naming(path):
        numbers = _numbers(model, path)
    _fill(model, numbers, path)


def _check_config(model, stored: dict) -> None:
    config, own = stored.get("config"), model.get_config()
    # The seed of its dropout and its name do not change its answers.
    fits = isinstance(config, dict) and all(
        config.get(name) == json.loads(json.dumps(own[name])) for name in ("image_size", "classes", "backbone")
    )
    if stored.get("class_name") != type(model).__name__ or not fits:
        raise RefusedError("holds another network than its run says")


def _numbers(model, file) -> list[np.ndarray]:
    """Return what each of the network's variables is to hold, once all are known to fit."""
    with h5py.File(file, "r") as stored:
        found = []
        for path, variable in _places(model).items():
            held = plain_dataset(stored, path)
            if held.spec.dtype != "F32" or held.spec.shape != tuple(variable.shape):
                raise RefusedError(
                    f"holds another network than its run says: {variable.path} is {held.spec.dtype} "
                    f"{list(held.spec.shape)}, not F32 {list(variable.shape)}"
                )
            found.append(held)
        return [held.read() for held in found]


def _places(model) -> dict:
    """Return where Keras stores each variable of a flat network: by its layers' classes, counted, and its number."""
    counted, places = Counter(), {}
    for layer in model.layers:
        kind = re.sub("([a-z])([A-Z])", r"\1_\2", re.sub("(.)([A-Z][a-z]+)", r"\1_\2", type(layer).__name__)).lower()
        name = f"{kind}_{counted[kind]}" if counted[kind] else kind
        counted[kind] += 1
        places |= {f"layers/{name}/vars/{number}": variable for number, variable in enumerate(layer.weights)}
    return places


def _fill(model, numbers, path) -> None:
    variables = list(_places(model).values())
    check_numbers({variable.path: array for variable, array in zip(variables, numbers, strict=True)}, path)
    for variable, array in zip(variables, numbers, strict=True):
        variable.assign(array)
