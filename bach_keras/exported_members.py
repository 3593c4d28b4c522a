"""The members of an export as networks that can be trained: what ``--init EXPORT:NODE`` starts from.

An export answers with folded kernels. Two files in its ``assets.extra``, which no server looks at, hold what folding
loses and what each member is. Reading them back loads no graph and runs nothing that the export holds.
"""

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import tensorflow as tf

from bach_keras.export_files import check_files
from bach_keras.fields import (
    NAME,
    OBJECT,
    PIXELS,
    SHA256,
    TEXT,
    TEXTS,
    FieldError,
    check,
    list_of,
    object_of,
    one_of,
    read_object,
    whole,
)
from bach_keras.network.h5 import plain_dataset, room_of
from bach_keras.network.head import Classifier
from bach_keras.network.resnext import BatchNorm
from bach_keras.network.tensors import RefusedError, naming
from bach_keras.network.unfold import VECTORS, digest_of, lost_by_folding, unfolded
from bach_keras.network.weights import check_numbers
from bach_keras.provenance import Provenance
from bach_keras.run_fields import WEIGHTS, WEIGHTS_MORE, check_backbone
from bach_keras.tree import NODES
from bach_keras.version_folder import loadable, version_folder, versions
from datasets.digest import sha256_of
from datasets.errors import UserError
from datasets.whole import whole as written_whole
from datasets.whole import write_json

WORDS, NUMBERS = "members.json", "members.h5"

# Where TensorFlow keeps a weight of ``Hierarchy`` in the export's variables.
_VARIABLE = "hierarchy/_weights/{}/.ATTRIBUTES/VARIABLE_VALUE"

_FILE = {
    "precision": one_of("float32", "bfloat16", "float16"), "numbers_sha256": SHA256, "images": OBJECT,
    "members": list_of(OBJECT, 1, 1000),
}  # fmt: skip
_IMAGES = {"trained_on": TEXTS, "chosen_on": TEXTS}
_MEMBER = {
    "node": one_of(*NODES), "source": TEXT, "protocol": TEXT, "image_size": whole(32, 4096), "backbone": OBJECT,
    "variables": object_of(whole(0, 10**6)), "kept": list_of(NAME), "sha256": SHA256,
    # A member without training images would blind the guard against leaks.
    "trained_on": list_of(whole(), 1), "chosen_on": list_of(whole()),
}  # fmt: skip
_MEMBER_MORE = {"weights_origin": OBJECT}


def write(version: Path, members, networks, precision: str) -> None:
    """Write the two files of an export in its version folder, whose ``networks`` (``trunks.split``) are of the members.

    ``precision`` is the type of its kernels.
    """
    images = Provenance.of_members(members).fields
    numbers, entries = {}, []
    for number, (member, places) in enumerate(zip(members, networks.places, strict=True)):
        # A function that is made in a loop takes the loop's last values, unless they are bound.
        def folded(layer, name, places=places):
            return _as_float32(networks.weights[places[f"{layer}/{name}"]].numpy())

        lost = lost_by_folding(member.model, folded, precision)
        numbers |= {f"{number}/{name}": array for name, array in lost.items()}
        entries.append({
            "node": member.node,
            "source": Path(member.source).name,
            "protocol": "".join(member.provenance.protocols),  # a member has one at most
            "image_size": member.view.image_size,
            "backbone": member.model.get_config()["backbone"],
            **({"weights_origin": member.weights_origin} if member.weights_origin else {}),
            "trained_on": _positions(images["trained_on"], member.provenance.trained_on),
            "chosen_on": _positions(images["chosen_on"], member.provenance.chosen_on),
            "variables": places,
            "kept": [name.removesuffix("/channels") for name in lost if name.endswith("/channels")],
            "sha256": digest_of(unfolded(member.model, folded, lost)),
        })  # fmt: skip
    extra = version / "assets.extra"
    with written_whole(extra / NUMBERS, room_of(numbers.values())) as partial, h5py.File(partial, "w") as file:
        for name, array in numbers.items():
            file[name] = array
    words = {"precision": precision, "numbers_sha256": sha256_of(extra / NUMBERS), "images": images, "members": entries}
    write_json(extra / WORDS, words)


@dataclass(frozen=True)
class ExportedMember:
    """One member of an export, to start a training from."""

    folder: Path  # the version folder
    name: str  # of the member in its export: carci, or of several carci.2
    number: int  # its place among the export's members
    facts: dict  # what ``members.json`` says of it
    precision: str  # what its kernels were rounded to
    provenance: Provenance

    @property
    def node(self) -> str:
        return self.facts["node"]

    @property
    def backbone(self) -> dict:
        """How its network differs from ResNeXt-50."""
        return self.facts["backbone"]

    @property
    def weights_origin(self) -> dict | None:
        """The public weights that it comes from."""
        return self.facts.get("weights_origin")

    @property
    def spelled(self) -> str:
        """How ``--init`` names it."""
        return f"{self.folder}:{self.name}"

    @property
    def lineage(self) -> list[str]:
        """What a run that starts here has as its ancestors."""
        return [self.spelled]

    def read_model(self) -> Classifier:
        """Build its network, and fill it with the numbers that it was exported with, unfolded.

        Nothing that the export names is built or called: it gives numbers, if they are those of the network.
        """
        model = Classifier(self.facts["image_size"], backbone=self.backbone)
        variables = {f"{layer.name}/{each.name}": each for layer in model.layers for each in layer.weights}
        try:
            with naming(self.folder), _checkpoint(self.folder) as checkpoint:
                folded = self._folded(checkpoint, {name: tuple(each.shape) for name, each in variables.items()})
                numbers = unfolded(model, folded, self._lost(model))
                if digest_of(numbers) != self.facts["sha256"]:
                    raise RefusedError(f"holds other weights of {self.name} than were exported")
            check_numbers(numbers, self.folder)
        except UserError as error:
            raise UserError(f"{str(error).rstrip('.')}: export it again.") from error
        for name, variable in variables.items():
            variable.assign(numbers[name])
        return model

    def _folded(self, checkpoint, shapes: dict[str, tuple]) -> Callable:
        """Return what reads the folded kernels and the head out of the export's variables."""
        held = checkpoint.get_variable_to_shape_map()

        def read(layer, name):
            path = f"{layer}/{name}"
            key = _VARIABLE.format(self.facts["variables"].get(path))
            if tuple(held.get(key, ())) != shapes[path]:
                raise RefusedError(f"has no {path} of {self.name}, or one of another shape, in its variables")
            return _as_float32(checkpoint.get_tensor(key))

        return read

    def _lost(self, model) -> dict[str, np.ndarray]:
        """Read what folding loses, each array of the shape that the network needs."""
        path = self.folder / "assets.extra" / NUMBERS
        norms = [layer for layer in model.layers if isinstance(layer, BatchNorm)]
        shapes = {f"{norm.name}/{name}": tuple(norm.gamma.shape) for norm in norms for name in VECTORS}
        with h5py.File(path, "r") as file:
            found = {name: _array(file, f"{self.number}/{name}", shape) for name, shape in shapes.items()}
            for layer in self.facts["kept"]:
                *sides, filters = model.get_layer(layer).kernel.shape
                channels = plain_dataset(file, f"{self.number}/{layer}/channels")
                count = channels.spec.shape[0] if len(channels.spec.shape) == 1 else -1
                if channels.spec.dtype != "I32" or not 0 < count <= filters:
                    raise RefusedError(f"holds other channels of {layer} than it has")
                found[f"{layer}/channels"] = channels.read()
                found[f"{layer}/kernels"] = _array(file, f"{self.number}/{layer}/kernels", (*sides, count))
        return found


def find(init: str, node: str | None) -> ExportedMember | None:
    """Return the member of an export that ``--init`` names: EXPORT, EXPORT:NODE or EXPORT:NODE.K.

    None is returned where it does not name an export. Without NODE it is the only member of ``node``.
    """
    place, colon, word = init.rpartition(":")
    if versions(Path(init)):
        place, wanted, which = init, node, None
    elif colon and versions(Path(place)):
        named = re.fullmatch(rf"({'|'.join(NODES)})(?:\.([1-9][0-9]{{0,3}}))?", word)
        if not named:
            raise UserError(
                f"{word!r} in --init {init} is not a member of an export: give EXPORT:NODE, NODE being "
                f"{', '.join(NODES)}, and of several EXPORT:NODE.2."
            )
        wanted, which = named[1], named[2] and int(named[2])
    else:
        return None
    return _chosen(version_folder(Path(place)), wanted, which)


def _chosen(folder: Path, node: str | None, which: int | None) -> ExportedMember:
    words = _read_words(folder)
    of_node = [entry["node"] for entry in words["members"]]
    names = [
        f"{name}.{1 + of_node[:place].count(name)}" if of_node.count(name) > 1 else name
        for place, name in enumerate(of_node)
    ]
    found = [place for place, name in enumerate(of_node) if name == node]
    if which is not None:
        found = found[which - 1 : which]
    if len(found) != 1:
        wanted = f"{node or 'one node'}{'' if which is None else f'.{which}'}"
        raise UserError(
            f"{folder} has {len(found) or 'no'} members that are {wanted}: name the one to start from, as "
            f"{' or '.join(f'--init {folder}:{name}' for name in names)}."
        )
    (place,) = found
    entry = words["members"][place]
    return ExportedMember(folder, names[place], place, entry, words["precision"], _provenance(words["images"], entry))


def _read_words(folder: Path) -> dict:
    path = folder / "assets.extra" / WORDS
    if not path.is_file():
        raise UserError(
            f"{folder} does not hold what a training needs to start from it, as exports of earlier versions do not: "
            "export its runs again, or start from one of them with --init RUN."
        )
    try:
        words = read_object(path)
        check(words, _FILE)
        check(words["images"], _IMAGES, {"pixels": PIXELS}, within="images")
        Provenance.read(words["images"])  # refuses names that were changed
        for number, entry in enumerate(words["members"]):
            within = f"members[{number}]"
            check(entry, _MEMBER, _MEMBER_MORE, within=within)
            if "weights_origin" in entry:
                check(entry["weights_origin"], WEIGHTS, WEIGHTS_MORE, within=f"{within}.weights_origin")
            check_backbone(entry["backbone"], f"{within}.backbone")
            for name in _IMAGES:
                if max(entry[name], default=-1) >= len(words["images"][name]):
                    raise FieldError(f"{within}.{name} points beyond images.{name}")
    except UserError as error:
        raise UserError(f"{path} is not what an export writes ({str(error).rstrip('.')}): export it again.") from error
    numbers = path.with_name(NUMBERS)
    if not numbers.is_file() or sha256_of(numbers) != words["numbers_sha256"]:
        raise UserError(f"{numbers} is not the file that was written with this export: export it again.")
    return words


def _provenance(images: dict, entry: dict) -> Provenance:
    names = {name: [images[name][place] for place in entry[name]] for name in _IMAGES}
    own = frozenset().union(*names.values())
    pixels = {name: said for name, said in images.get("pixels", {}).items() if name in own}
    return Provenance.read({**names, "pixels": pixels}, {entry["protocol"]})


def _positions(names: list[str], wanted: frozenset[str]) -> list[int]:
    return [place for place, name in enumerate(names) if name in wanted]


@contextlib.contextmanager
def _checkpoint(folder: Path):
    check_files(folder)
    with loadable(folder) as path:
        yield tf.train.load_checkpoint(str(path / "variables" / "variables"))


def _array(file: h5py.File, path: str, shape: tuple[int, ...]) -> np.ndarray:
    held = plain_dataset(file, path)
    if (held.spec.dtype, held.spec.shape) != ("F32", shape):
        raise RefusedError(f"holds {path} in {NUMBERS} of another shape than its network has")
    return held.read()


def _as_float32(array) -> np.ndarray:
    return np.asarray(array).astype(np.float32)
