"""The models behind the doors: three tiny networks trained on a few phantoms, their export and their TFLite file."""

import logging
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.hostile.watch import ROOT

NODES = ("carci", "norbe", "invis")


@dataclass(frozen=True)
class Tree:
    """Where the small tree is."""

    folder: Path

    @property
    def export(self) -> Path:
        return self.folder / "tree" / "1"

    @property
    def tflite(self) -> Path:
        return self.folder / "tree.tflite"

    @property
    def evaluation(self) -> Path:
        return self.folder / "evaluation"

    @property
    def images(self) -> list[str]:
        """Options that name images that no network of the tree trained on."""
        return ["--config", "own-few", "--data-dir", str(self.folder / "data"), "--split", "all"]

    def run(self, node: str) -> Path:
        return self.folder / "runs" / node

    @property
    def members(self) -> list[str]:
        return [word for node in NODES for word in (f"--{node}", str(self.run(node)))]


def make(folder: Path) -> Tree:
    """Make the tree in a process of its own, whose memory ends with it."""
    if not (folder / "ready").exists():
        command = [sys.executable, "-m", "benchmarks.hostile.tree", str(folder)]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    return Tree(folder)


def _make(tree: Tree) -> None:
    from bach_keras.members import load_member
    from bach_keras.serving.export import export_tree
    from bach_keras.serving.tflite.convert import convert
    from datasets import phantom
    from tests import trainings
    from tests.few_phantoms import NO_SWEEP, few_phantoms, training_records

    data, start = few_phantoms(), trainings.RANDOM
    for node in NODES:
        trainings.trained(trainings.job(tree.run(node), node, start, NO_SWEEP, data))
        start = trainings.start_at(tree.run("carci"))
    members = [load_member(node, str(tree.run(node))) for node in NODES]
    export_tree(members, tree.export, training=training_records(data))
    pictures = [phantom.draw_named(name)[::4, ::4] for name in data.files["train"]]
    convert(members, tree.tflite, "none", pictures)
    _evaluate(tree)
    (tree.folder / "ready").touch()


def _evaluate(tree: Tree) -> None:
    """Prepare a few images of other patients, and evaluate the tree on them."""
    from click.testing import CliRunner
    from PIL import Image

    from cli import cli
    from datasets import phantom
    from datasets.labels import CLASSES
    from tests.datasets.slides.slide_files import write_pyramid

    source = tree.folder / "source"
    for number in range(32):
        label = CLASSES[number % 4]
        (source / label).mkdir(parents=True, exist_ok=True)
        drawn = Image.fromarray(phantom.draw(label, 700 + number // 8, number)[::4, ::4])
        drawn.save(source / label / f"{number}.png")
    write_pyramid(tree.folder / "slide.tif", photometric="rgb")
    for words in (
        ["data", "prepare", "--config", "own", "--name", "few", "--source", source, "--data-dir", tree.folder / "data"],
        ["evaluate", *tree.members, *tree.images, "--out", tree.evaluation],
    ):
        done = CliRunner().invoke(cli, [str(word) for word in words])
        if done.exit_code:
            raise RuntimeError(done.output)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    _make(Tree(Path(sys.argv[1])))
