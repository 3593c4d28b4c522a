"""Do the maps show what answers rest on, and what do they cost?

``python -m benchmarks.explanations --carci RUN --norbe RUN --invis RUN`` (or some of them) prints for each node, on
phantoms of patients that no data set has: deletion and insertion (``explanation_curves``), whether the map lies on the
structure that makes the class (``explanation_places``), and whether it changes with the weights
(``explanation_weights``). ``--model EXPORT`` prints what an answer of ``explain`` costs against one of
``serving_default``, alternating. Without any of these it does all that with what ``make demo`` made.
"""

import argparse
import subprocess
import sys
import time

import numpy as np

from bach_keras.packed_kernels import keep_packed_kernels
from bach_keras.tree import NODES

FILLERS = ("other tissue", "mean colour", "blur")
ORDERS = ("map", "HiResCAM", "centre first", "map, smallest first")


def print_areas(node, images, seed) -> None:
    from benchmarks.explanation_curves import areas, ratio

    found = areas(node, images, seed)
    print("\narea / that of cells in random order (95 % interval by patient); smallest first: insertion\n")
    print(f"| replaced by | answered | n | {' | '.join(ORDERS)} | random's area |\n|---|---|---{'|---' * 5}|")
    for filler in FILLERS:
        if (filler, "lossy") not in found:
            print(f"| {filler} | there is none, as all images have one answer |")
            continue
        for name, of_class in (("either", (0, 1)), *((each, (index,)) for index, each in enumerate(node.node.classes))):
            rows = np.isin(found["answered"], of_class) & found[filler, "lossy"]
            line = f"| {filler} | {name} | {rows.sum()} of {np.isin(found['answered'], of_class).sum()} |"
            if rows.sum() > 2:
                peer = found[filler, "cells at random"][rows]
                cells = ("{:.2f} ({:.2f} to {:.2f})".format(*ratio(found[filler, each][rows], peer)) for each in ORDERS)
                line += f" {' | '.join(cells)} | {peer.mean():.3f} |"
            print(line)


def print_places(node, images) -> None:
    from benchmarks.explanation_curves import ratio
    from benchmarks.explanation_places import grid, on_structure

    print(
        "\nin the structure: share of maps whose maximum is, and of the maps' sum; chance: other images' structures\n"
    )
    print(f"| method | label | n | hits | chance | ratio | energy | chance | ratio |\n{'|---' * 9}|")
    labels = np.array([image.label for image in images])
    for method, found in on_structure(node, images).items():
        for label in dict.fromkeys(labels):
            line = f"| {method} | {label} | {np.sum(labels == label)} |"
            for name in ("hit", "energy"):
                own, chance = (found[key][labels == label] for key in (name, f"{name}_chance"))
                line += " {:.2f} | {:.2f} | {:.2f} ({:.2f} to {:.2f}) |".format(
                    own.mean(), chance.mean(), *ratio(own, chance)
                )
            print(line)
    print("\nin the one quarter of another answer; chance: 0.25\n")
    print(f"| method | quarter | n | hits | energy |\n{'|---' * 5}|")
    for method, found in grid(node, images).items():
        for label in dict.fromkeys(labels):
            rows = labels == label
            means = (f"{_with_interval(found[name][rows])}" for name in ("hit", "energy"))
            print(f"| {method} | {label} | {rows.sum()} | {' | '.join(means)} |")


def _with_interval(values) -> str:
    from benchmarks.explanation_curves import ratio

    return "{:.2f} ({:.2f} to {:.2f})".format(*ratio(values, np.ones_like(values)))


def print_cascade(node, images, seeds) -> None:
    from benchmarks.explanation_weights import cascade

    print(f"\nlike the map before, mean of {len(images)} images and {seeds} seeds\n")
    print("| randomised down to | rank correlation | its size | SSIM |\n|---|---|---|---|")
    for name, row in cascade(node, np.stack([image.square for image in images]), range(seeds)):
        print(f"| {name} | {row['rank']:.2f} | {row['absolute']:.2f} | {row['ssim']:.2f} |")


def cost(export, count: int, rounds: int) -> dict[str, list[float]]:
    """Return name -> milliseconds of each answer for so many images."""
    from bach_keras.serving.images import as_png
    from datasets import phantom

    pngs = [as_png(export.prepared(phantom.draw("benign", phantom.PATIENTS + index, 0))) for index in range(count)]
    sides, taken = {"serving_default": export.encoded, "explain": export.explain}, {}
    for number in range(rounds + 2):
        for name, answer in sides.items():
            start = time.perf_counter()
            np.asarray(answer(pngs)["probabilities"])
            if number >= 2:  # the first two are a warm-up
                taken.setdefault(name, []).append(1e3 * (time.perf_counter() - start))
    return taken


def print_cost(folder, rounds) -> None:
    from bach_keras.serving.exported import Export

    export = Export(folder)
    print("| images | serving_default, ms | explain, ms | explain / serving_default, by round: 10 % - median - 90 % |")
    print("|---|---|---|---|")
    for count in (1, 8):
        taken = cost(export, count, rounds)
        each = np.array(taken["explain"]) / taken["serving_default"]
        low, middle, high = np.percentile(each, [10, 50, 90])
        medians = " | ".join(f"{np.median(taken[name]):.0f}" for name in ("serving_default", "explain"))
        print(f"| {count} | {medians} | {low:.2f} - **{middle:.2f}** - {high:.2f} |")


def print_proofs(runs: dict[str, str], given) -> None:
    from bach_keras.members import uncalibrated_member
    from benchmarks.explained_node import ExplainedNode, samples

    for name, run in runs.items():
        member = uncalibrated_member(name, run)
        node, images = ExplainedNode(NODES[name], member.model), samples(NODES[name], member.view, given.count)
        print(f"\n## {name}: {len(images)} phantoms, {member.view}")
        print_areas(node, images, given.seed)
        print_places(node, images)
        print_cascade(node, images, given.seeds)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for node in NODES:
        parser.add_argument(f"--{node}", metavar="RUN")
    parser.add_argument("--model", metavar="EXPORT", help="measure the cost")
    parser.add_argument("--count", type=int, default=10, help="phantoms of each label")
    parser.add_argument("--seeds", type=int, default=2, help="of the randomised weights")
    parser.add_argument("--rounds", type=int, default=30, help="of the cost")
    parser.add_argument("--seed", type=int, default=0, help="of the random orders")
    given = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)
    runs = {name: getattr(given, name) for name in NODES if getattr(given, name)}
    if runs or not given.model:
        print_proofs(runs or {name: f"runs/demo/{name}" for name in NODES}, given)
        if not runs or given.model:
            # Packed kernels, which predict keeps, would answer for weights that are no more: a process of its own.
            words = ["--model", given.model or "saved_models/demo/1", "--rounds", str(given.rounds)]
            subprocess.run([sys.executable, "-m", "benchmarks.explanations", *words], check=True)
        return
    keep_packed_kernels()
    print_cost(given.model, given.rounds)


if __name__ == "__main__":
    main()
