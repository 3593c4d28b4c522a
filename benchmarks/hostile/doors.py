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
    inputs: tuple[str, ...]  # kinds of inputs, as ``inputs.py`` names them
    warm: tuple[str, ...]  # good inputs that it is given first
    share: float = 1.0  # of the inputs of a campaign
    seconds: float = 20  # of a processor that an input may take
    megabytes: int = 1536  # of memory, beside what the process had with a good input


_PNG, _RUN, _EVALUATION = "warm/warm.png", "tree/runs/carci", "tree/evaluation"
DOORS = {
    "predict": Door("image_doors.predict", ("pictures", "places", "names", "given"), (_PNG,)),
    "export": Door("image_doors.decoding", ("pictures", "given"), (_PNG,)),
    "tflite": Door("image_doors.tflite", ("pictures", "places", "given"), (_PNG,), share=0.15),
    "prepare": Door("file_doors.prepare", ("own", "zips"), ("tree/source",), share=0.1, seconds=40),
    "weights port": Door("file_doors.port", ("weights", "places"), (_PNG,)),
    "weights inspect": Door("file_doors.inspect", ("weights", "places"), (_PNG,)),
    "runs": Door("folder_doors.runs", ("runs",), (_RUN,)),
    "evaluate": Door("folder_doors.evaluate", ("runs", "exports"), (_RUN,), share=0.1),
    "report": Door("folder_doors.report", ("evaluations", "runs"), (_EVALUATION, _RUN), share=0.3),
    "page": Door("servers.page", ("pictures", "given"), (_PNG,), share=0.15),
    "slide": Door("file_doors.slide", ("slides", "regions", "pictures", "places", "given"), (_PNG,), share=0.1),
    "bulk": Door("file_doors.bulk", ("lists",), (_PNG,)),
    "rest": Door("servers.rest", ("http", "pictures", "given"), (_PNG,), share=0.3),
    "grpc": Door("servers.grpc", ("messages", "pictures", "given"), (_PNG,), share=0.3),
}


def open_door(name: str, tree: Tree, place: Path) -> Callable:
    """Return the function that gives a door an input: its number and its path."""
    module, function = DOORS[name].opened_by.split(".")
    return getattr(importlib.import_module(f"benchmarks.hostile.{module}"), function)(tree, place)
