"""Pictures of where the nodes on an image's path looked."""

from pathlib import Path

import numpy as np

from bach_keras.evidence import overlay
from bach_keras.serving.option_names import Option
from bach_keras.serving.picture_folder import check_folder, stem
from bach_keras.serving.predict import Extra
from bach_keras.tree import NODES, ROOT, SPECIALISTS
from datasets.errors import UserError, working


def check_explains(export, views: int | None, paths, out: Path, names=Option) -> None:
    """Refuse an export that does not say where it looked, views that it does not average, and a place not to write."""
    if not export.explains:
        raise UserError(
            f"{export.folder} does not say where it looked, as it has no signature explain: it is of an earlier "
            f"version. Export its runs again, or leave out {names.named('explain')}."
        )
    if views not in (None, export.views):
        raise UserError(
            f"{names.named('explain')} answers with the model's own views, {export.views}: leave out "
            f"{names.named('views', views)}, or export the runs again with --views {views}."
        )
    check_folder(names.named("explain"), out, paths)


class Maps(Extra):
    """Asks of each image where the nodes on its path looked; what is made of it is ``kept``'s matter."""

    def look(self, path, pixels):
        return overlay.small(pixels)

    def ask(self, export, prepared):
        found = export.explain(prepared)
        maps = {name: found[name] for name in found if name.endswith("_map")}
        return {"answers": {name: found[name] for name in found if name not in maps}, **maps}

    def fields(self, path, row, looked, asked):
        # A graph may have been tampered with; the condition is written so that NaN does not pass.
        if not all(((found >= 0) & (found <= 1 + 1e-6)).all() for found in asked.values()):
            return {"error": "The model gives a map that is not of numbers from 0 to 1."}
        return self.kept(path, row, looked, by_node(row, asked))

    def kept(self, path: Path, row: dict, picture: overlay.Picture, maps: dict[str, np.ndarray]) -> dict:
        """Return what the row of an image says of its maps, which are by node."""
        raise NotImplementedError


class Pictures(Maps):
    """Writes for each image a picture of each node on its path, into the folder ``out``, which is made.

    A row has ``explanation``: node -> the picture's file.
    """

    def __init__(self, export, out: Path):
        self.side, self.out = export.side, Path(out)
        self.out.mkdir(parents=True, exist_ok=True)

    def kept(self, path, row, picture, maps):
        drawn = {node: overlay.drawn(found, picture, self.side) for node, found in maps.items()}
        titles = {node: _title(node, row["nodes"][node], found) for node, found in maps.items()}
        return {"explanation": {node: self._write(path, node, each, titles[node]) for node, each in drawn.items()}}

    def _write(self, path, node, picture, title) -> str:
        place = self.out / file_name(path, node)
        with working():
            overlay.write(place, picture, title)
        return str(place)


def _title(node: str, answered: dict[str, float], found: np.ndarray) -> str:
    label = max(answered, key=answered.get)
    # Otherwise a picture without any colour would look as if something had failed.
    nowhere = "" if found.any() else ", no place speaks for it"
    return f"{node}: {label} {answered[label]:.3f}{nowhere}"


def by_node(row: dict, maps: dict) -> dict[str, np.ndarray]:
    """Return which map, of those that ``explain`` gave of an image, is of which node on the image's path."""
    if "specialist_map" not in maps:
        ((name, found),) = maps.items()
        return {name.removesuffix("_map"): found}
    carci = row["nodes"][ROOT.name]
    specialist = SPECIALISTS[int(np.argmax([carci[name] for name in NODES[ROOT.name].classes]))]
    return {ROOT.name: maps[f"{ROOT.name}_map"], specialist.name: maps["specialist_map"]}


def file_name(path, node: str) -> str:
    """Return the name of the picture of a node and of the image at a path."""
    return f"{stem(path)}-{node}.png"
