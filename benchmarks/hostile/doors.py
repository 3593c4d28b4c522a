"""The doors by name: how each is opened, and what it is given."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.hostile.tree import Tree


@dataclass(frozen=True)
class Door:
    """A way into the project."""

    opened_by: str  # module and function
    inputs: dict[str, float]  # a share of each of the kinds of ``inputs.py``
    warm: tuple[str, ...]  # good inputs that it is given first, and must answer
    seconds: float = 20  # of a processor that an input may take
    megabytes: int = 2048  # of memory, beside what the process had with a good input


_PNG, _WEIGHTS, _LIST = "warm/warm.png", "warm/weights.pth", "warm/list.txt"
_RUN, _EVALUATION, _SLIDE = "tree/runs/carci", "tree/evaluation", "tree/slide.tif"
DOORS = {
    "predict": Door("image_doors.predict", {"bombs": 1, "pictures": 1, "places": 1, "names": 1, "given": 1}, (_PNG,)),
    "export": Door("image_doors.decoding", {"bombs": 1, "pictures": 0.5, "given": 0.5}, (_PNG,)),
    "tflite": Door("image_doors.tflite", {"bombs": 1, "pictures": 0.1, "places": 1, "given": 0.1}, (_PNG,)),
    "prepare": Door("file_doors.prepare", {"own": 0.6, "sheets": 0.2, "zips": 1}, ("tree/source",), seconds=40),
    "weights port": Door("file_doors.port", {"weights": 1, "places": 1}, (_WEIGHTS,)),
    "weights inspect": Door("file_doors.inspect", {"weights": 1, "places": 1}, (_WEIGHTS,)),
    "runs": Door("folder_doors.runs", {"runs": 1}, (_RUN,)),
    "evaluate": Door("folder_doors.evaluate", {"runs": 0.1, "exports": 0.2, "reaching": 1}, (_RUN,)),
    "report": Door("folder_doors.report", {"evaluations": 1, "runs": 0.4}, (_EVALUATION, _RUN)),
    "page": Door("servers.page", {"bombs": 1, "pictures": 0.1, "names": 0.1, "given": 0.1}, (_PNG,)),
    "slide": Door(
        "file_doors.slide",
        {"slides": 0.2, "regions": 0.2, "bombs": 1, "pictures": 0.03, "places": 1, "given": 0.03},
        (_SLIDE,),
    ),
    "bulk": Door("file_doors.bulk", {"lists": 1}, (_LIST,)),
    "bulk images": Door(
        "image_doors.bulk", {"bombs": 1, "pictures": 0.3, "places": 1, "names": 1, "given": 0.3}, (_PNG,)
    ),
    "rest": Door("servers.rest", {"http": 1, "bombs": 1, "pictures": 0.1, "given": 0.1}, (_PNG,)),
    "grpc": Door("servers.grpc", {"messages": 1, "bombs": 1, "pictures": 0.1, "given": 0.1}, (_PNG,)),
}


def open_door(name: str, tree: Tree, place: Path) -> Callable:
    """Return the function that gives a door an input: its number and its path."""
    module, function = DOORS[name].opened_by.split(".")
    return getattr(importlib.import_module(f"benchmarks.hostile.{module}"), function)(tree, place)
