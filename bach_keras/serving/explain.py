"""Pictures of where the nodes on an image's path looked."""

import hashlib
import os
import re
from pathlib import Path

import numpy as np

from bach_keras.evidence import overlay
from bach_keras.serving.predict import Extra
from bach_keras.tree import NODES, ROOT, SPECIALISTS
from datasets.errors import UserError, working

# A name keeps so much of the image's own.
_LONGEST_STEM = 60


def check_explains(export, views: int | None, paths, out: Path) -> None:
    """Refuse an export that does not say where it looked, views that it does not average, and a place not to write."""
    if not export.explains:
        raise UserError(
            f"{export.folder} does not say where it looked, as it has no signature explain: it is of an earlier "
            "version. Export its runs again, or leave out --explain."
        )
    if views not in (None, export.views):
        raise UserError(
            f"--explain answers with the model's own views, {export.views}: leave out --views {views}, or export the "
            f"runs again with --views {views}."
        )
    if out.exists() and not out.is_dir():
        raise UserError(f"--explain {out} is not a folder: name one for the pictures.")
    place = out.resolve()
    for path in map(Path, paths):
        if path.is_dir() and place.is_relative_to(path.resolve()):
            raise UserError(
                f"--explain {out} lies in {path}, whose images are answered for, so the pictures would be too the next "
                "time: name a folder outside it."
            )


class Pictures(Extra):
    """Writes for each image a picture of each node on its path, into the folder ``out``, which is made.

    A row has ``explanation``: node -> the picture's file.
    """

    def __init__(self, export, out: Path):
        self.side, self.out = export.side, Path(out)
        self.out.mkdir(parents=True, exist_ok=True)

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
        drawn = {node: overlay.drawn(found, looked, self.side) for node, found in by_node(row, asked).items()}
        return {"explanation": {node: self._write(path, node, row, each) for node, each in drawn.items()}}

    def _write(self, path, node, row, picture) -> str:
        answered = row["nodes"][node]
        label = max(answered, key=answered.get)
        place = self.out / file_name(path, node)
        with working():
            overlay.write(place, picture, f"{node}: {label} {answered[label]:.3f}")
        return str(place)


def by_node(row: dict, maps: dict) -> dict[str, np.ndarray]:
    """Return which map, of those that ``explain`` gave of an image, is of which node on the image's path."""
    if "specialist_map" not in maps:
        ((name, found),) = maps.items()
        return {name.removesuffix("_map"): found}
    carci = row["nodes"][ROOT.name]
    specialist = SPECIALISTS[int(np.argmax([carci[name] for name in NODES[ROOT.name].classes]))]
    return {ROOT.name: maps[f"{ROOT.name}_map"], specialist.name: maps["specialist_map"]}


def file_name(path, node: str) -> str:
    """Return the name of an image's picture: what can be kept of the image's own, a digest of its path, the node."""
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", Path(path).stem)[:_LONGEST_STEM]
    return f"{stem}-{digest}-{node}.png"
