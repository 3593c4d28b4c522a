"""One network in a file of weights, by torchvision's names, whatever the file calls them."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from bach_keras.network.checkpoint import Checkpoint
from bach_keras.network.layouts import Network, choose, left_over, networks
from bach_keras.network.tensors import naming


@dataclass(frozen=True)
class Held:
    """A network of a checkpoint; ``names`` and ``shapes`` are of its own tensors, and of its top if it has one."""

    checkpoint: Checkpoint
    network: Network

    @classmethod
    def open(cls, path: Path, wanted: dict[str, list[int]], prefix: str | None = None) -> "Held":
        """Find the network to take in a file.

        Where there are several, it is the only one that has all that is ``wanted`` (torchvision's names -> shapes), or
        the one behind ``prefix``; otherwise the user is asked.
        """
        checkpoint = Checkpoint(path)
        with naming(checkpoint.path):
            network = choose(networks(checkpoint.specs), lambda each: cls(checkpoint, each).has(wanted), prefix)
        return cls(checkpoint, network)

    @property
    def path(self) -> Path:
        return self.checkpoint.path

    @cached_property
    def shapes(self) -> dict[str, list[int]]:
        return {name: list(self.checkpoint.specs[own].shape) for name, own in self.network.names.items()}

    @property
    def classes(self) -> int | None:
        """How many classes its top has; None where it has no top."""
        shape = self.shapes.get("fc.weight", [])
        return shape[0] if len(shape) == 2 else None

    @property
    def left_over(self) -> list[str]:
        """The names in the file of what is not this network's."""
        return left_over(self.network, self.checkpoint.specs)

    def has(self, wanted: dict[str, list[int]]) -> bool:
        """Return whether it has all that is wanted, in its shape; a top may have any."""
        return all(self.shapes.get(name) == shape for name, shape in wanted.items() if not name.startswith("fc."))

    def read(self, names: Iterable[str]) -> dict[str, np.ndarray]:
        """Return torchvision's name -> array, of some of its tensors."""
        own = {name: self.network.names[name] for name in names}
        found = self.checkpoint.read(own.values())
        return {name: found[inner] for name, inner in own.items()}
