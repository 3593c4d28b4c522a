"""The weights that Keras keeps of a network, read into one that is there already.

``keras.saving.load_model`` builds what the file names, and runs what that holds. Here the network is built from what
its run says, and the file gives numbers alone, after names, types and shapes were found to be the network's.
"""

import io
import re
from collections import Counter
from pathlib import Path

import h5py
import numpy as np

from bach_keras.fields import parse_object, plain
from bach_keras.network.archive import members, open_archive, read_member
from bach_keras.network.h5 import plain_dataset
from bach_keras.network.tensors import RefusedError
from bach_keras.network.weights import check_numbers
from datasets.errors import UserError

# What HDF5 and Keras's words take beside the numbers.
_SPARE = 2**24
_MAX_WORDS = 2**20


def read_keras(model, path: Path) -> None:
    """Fill a network from a ``model.keras`` of one like it.

    Raises:
        UserError: the file is damaged, is of another network, or holds what no trained network does.
    """

    def read():
        with path.open("rb") as file, open_archive(file) as archive:
            there = members(archive)
            if not {"config.json", "model.weights.h5"} <= set(there):
                raise RefusedError("is a zip archive, but no network that Keras kept")
            config = parse_object(read_member(archive, there["config.json"], _MAX_WORDS))
            told = config.get("config")
            mine = model.get_config()
            # The seed of its dropout and what it is called are no part of its answers.
            differs = [
                name
                for name in ("image_size", "classes", "backbone")
                if not isinstance(told, dict) or told.get(name) != _as_json(mine[name])
            ]
            if config.get("class_name") != type(model).__name__ or differs:
                raise RefusedError("holds another network than its run says")
            return _numbers(model, io.BytesIO(read_member(archive, there["model.weights.h5"], _most(model))))

    _fill(model, _told(path, read), path)


def read_weights(model, path: Path) -> None:
    """Fill a network from a ``.weights.h5`` of one like it.

    Raises:
        UserError: the file is damaged, is of another network, or holds what no trained network does.
    """
    _fill(model, _told(path, lambda: _numbers(model, path)), path)


def _told(path, read):
    """Read a file; what is wrong with it becomes one sentence."""
    try:
        return read()
    except RefusedError as error:
        raise UserError(f"{path} {error}") from error
    except Exception as error:  # a damaged file can raise nearly anything
        raise UserError(f"{path} is cut short or damaged ({plain(str(error), 200)})") from error


def _most(model) -> int:
    return 4 * model.count_params() + _SPARE


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
    """Return where Keras keeps each variable of a flat network: by its layers' classes, counted, and its number."""
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


def _as_json(value):
    if isinstance(value, dict):
        return {name: _as_json(part) for name, part in value.items()}
    return [_as_json(part) for part in value] if isinstance(value, list | tuple) else value
