"""A tree of small networks that see phantoms at 288 pixels: ``python -m benchmarks.small_tree DIR``.

Its maps have 9 x 9 cells, where those of the demo's networks, at 96 pixels, have 3 x 3. It has one narrow block a
stage, so that two processors train all three nodes in minutes. DIR gets a run folder for each node.
"""

import logging
import sys
from dataclasses import replace
from pathlib import Path

from bach_keras.recipe import PHANTOM
from bach_keras.run_folder import Run
from bach_keras.training.job import Job
from bach_keras.training.start import Start
from bach_keras.training.train import create, train
from bach_keras.tree import NODES
from datasets.split_data import split_data

BACKBONE = {"blocks": (1, 1, 1, 1), "cardinality": 8, "base_width": 4, "stem": 16}
EPOCHS = {"carci": 5, "norbe": 4, "invis": 6}


def main(folder: str) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    data, start = split_data("phantom", "patient"), Start("none")
    for name, epochs in EPOCHS.items():
        recipe = replace(PHANTOM, image_size=288, range_test=False, cycle_epochs=epochs, backbone=BACKBONE)
        job = Job(NODES[name], data, start, recipe, Path(folder) / name)
        train(job, create(job))
        if name == "carci":  # its specialists start from it
            start = Start(str(job.folder), parent=Run.open(job.folder))


if __name__ == "__main__":
    main(sys.argv[1])
