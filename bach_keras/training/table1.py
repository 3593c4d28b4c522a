"""Table 1 of Koné & Boulmane (2018) from one command: its plan's runs trained, and their trees scored."""

import functools
import logging
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from bach_keras.evidence.evaluate import evaluate, read_system
from bach_keras.evidence.results import write_results
from bach_keras.hierarchy import Hierarchy
from bach_keras.members import load_members, run_folder
from bach_keras.recipe import Recipe
from bach_keras.run_folder import Run, recipe_as_json, versions
from bach_keras.run_place import is_finished
from bach_keras.training.alone import alone
from bach_keras.training.best_start import validation_score
from bach_keras.training.building import network, precision
from bach_keras.training.checkpoint import standing
from bach_keras.training.fit import compiled
from bach_keras.training.job import Job
from bach_keras.training.phases import phases, snapshot_epochs
from bach_keras.training.spread import Cluster, train_on_cluster
from bach_keras.training.start import Start
from bach_keras.training.stops import Interrupted
from bach_keras.training.table1_plan import Plan, PlannedRun, Tree
from bach_keras.training.train import finish
from bach_keras.tree import NODES
from bach_keras.wording import counted
from datasets.errors import working
from datasets.split_data import SplitData
from datasets.whole import write_json

LOG = logging.getLogger(__name__)

# The validation accuracy of the snapshot that the paper's ensemble takes beside the best epoch.
SNAPSHOT_ACCURACY = 0.99


def reproduce_table1(
    plan: Plan, recipe: Recipe, start: Start, only_plan: bool = False, prepare=None, cluster: Cluster | None = None
) -> dict:
    """Train what is not trained yet, score it, and write results.json and results.html.

    Finished runs are kept and interrupted ones resumed, so that the command can be given again at any time. Each run is
    trained, and each tree scored, in a process of its own: in one, memory grows with every run.

    Args:
        plan: what to train and score.
        recipe: of all runs, but for the seed.
        start: of all runs without a parent.
        only_plan: report the plan and train nothing.
        prepare: called first in each process, for one to show its log.
        cluster: where to train; None trains here, one run after the other. Trees are scored here.

    Returns:
        What results.json holds; empty with ``only_plan``.

    Raises:
        TrainingError: a loss diverged, or the disk is full.
    """
    recipe = start.adapted(recipe)
    _report_plan(plan, recipe, start, prepare)
    if only_plan:
        return {}
    plan.out.mkdir(parents=True, exist_ok=True)  # where that fails, nothing was started
    with working():
        job_of = functools.partial(_job, plan=plan, recipe=recipe, start=start)
        if cluster is None:
            _train_here(plan, job_of, prepare)
        else:
            train_on_cluster(plan, job_of, cluster, prepare)
        results = {
            "config": plan.config,
            "recipe": recipe_as_json(recipe),
            "versions": versions(),
            "trees": [_score(tree, plan, recipe, start, prepare) for tree in plan.trees],
            "runs": [_outcome(planned) for planned in plan.runs],
        }
        write_json(plan.out / "results.json", results)
        write_results(plan.out / "results.html", results)
    LOG.info(f"wrote {plan.out / 'results.json'} and results.html")
    return results


def _train_here(plan, job_of, prepare) -> None:
    for number, planned in enumerate(plan.runs, 1):
        LOG.info(f"run {number} of {len(plan.runs)}: {planned.folder}")
        job = job_of(planned)
        try:
            if is_finished(planned.folder):
                finish(job)  # trains nothing
            else:
                alone(finish, job, prepare=prepare)
        except Interrupted as interrupted:
            interrupted.resume = "Resume by giving the same command again: what is finished is kept."
            raise


def _job(planned: PlannedRun, plan: Plan, recipe: Recipe, start: Start) -> Job:
    if planned.parent is not None:
        start = Start(str(planned.parent), parent=Run.open(planned.parent))
    return Job(
        NODES[planned.node],
        plan.data[planned.config, planned.protocol],
        start,
        replace(recipe, seed=planned.seed),
        planned.folder,
        stop_at=Run.open(planned.stop_at) if planned.stop_at else None,
    )


def _report_plan(plan: Plan, recipe: Recipe, start: Start, prepare):
    """Report the plan, and how long its steps should take by a few timed now; start-up and scoring come on top."""
    speeds, total = {}, 0.0
    LOG.info(f"{counted(len(plan.runs), 'run')}:")
    for planned in plan.runs:
        if is_finished(planned.folder):
            LOG.info(f"  {planned.folder}: finished")
            continue
        seeded = replace(recipe, seed=planned.seed)  # refuses a seed that is none before anything is timed or trained
        # A parent need not be trained yet: that it is one is enough to know the phases.
        first = start if planned.parent is None else Start("parent", weights=planned.parent)
        if first.is_random not in speeds:
            speeds[first.is_random] = alone(_seconds_per_step, recipe, first, prepare=prepare)
        data = plan.data[planned.config, planned.protocol]
        count = len(Job(NODES[planned.node], data, first, seeded, planned.folder).files["train"])
        # The range tests come first, then every epoch; validation adds a little.
        updates = count // recipe.batch_size
        sweeps = sum(
            recipe.sweep_steps(phase.epochs * updates) for phase in phases(recipe, first) if not phase.continues
        )
        seconds = (recipe.epochs * updates + sweeps) * speeds[first.is_random]
        total += seconds
        epochs = f"{'at most ' if planned.stop_at else ''}{counted(recipe.epochs, 'epoch')}"
        LOG.info(f"  {planned.folder}: {epochs} on {counted(count, 'image')}, about {_clock(seconds)}")
    LOG.info(f"about {_clock(total)} in all" if total else "nothing is left to train")


def _seconds_per_step(recipe: Recipe, start: Start, steps: int = 3) -> float:
    images = np.zeros((recipe.part_size, recipe.image_size, recipe.image_size, 3), np.float32)
    answers = np.arange(recipe.part_size) % 2
    # Black images will do: the time of a step does not depend on what is in them.
    with precision(recipe.precision):
        trained = compiled(network(recipe), phases(recipe, start)[-1], recipe)
        trained.train_on_batch(images, answers)  # traces
        started = time.monotonic()
        for _ in range(steps * recipe.accumulate):
            trained.train_on_batch(images, answers)
    return (time.monotonic() - started) / steps


def _clock(seconds: float) -> str:
    minutes = max(1, round(seconds / 60))
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def _score(tree: Tree, plan: Plan, recipe: Recipe, start: Start, prepare) -> dict:
    """Evaluate a tree unless that is done, and return its row."""
    specs = {
        node: list(dict.fromkeys(filter(None, (_chosen(folders, recipe, start) for folders in members))))
        for node, members in tree.members.items()
    }
    # Members are chosen by validation before the tree is scored on test images, never by the score.
    row = {"row": tree.row, "config": tree.config, "protocol": tree.protocol, "seed": tree.seed, "members": specs}
    data = plan.data[tree.config, tree.protocol]
    if tree.row == "full ensemble" and data.held_out != "test":
        return {**row, "score": None}  # it trained on every labelled image
    members = [spec for given in specs.values() for spec in given]
    done = tree.folder / "metrics.json"
    score = read_system(done) if done.is_file() else {}
    # A member trained again, or another that is now the better one, makes an old score worthless; one of an earlier
    # version lacks what the page shows.
    if score.get("members") != members or "headline" not in score or _newest(members) > done.stat().st_mtime_ns:
        LOG.info(f"scoring {tree.folder}")
        score = alone(_evaluate, specs, members, data, tree.folder, prepare=prepare)
    return {**row, "score": score}


def _evaluate(specs: dict[str, list[str]], members: list[str], data: SplitData, folder: Path) -> dict:
    return evaluate(Hierarchy(load_members(specs)), data, None, folder, members)


def _newest(members: list[str]) -> int:
    """Return when the last of some runs was finished: one trained again in the same place is another."""
    return max((run_folder(spec) / "metrics.json").stat().st_mtime_ns for spec in members)


def _chosen(folders: tuple[Path, ...], recipe: Recipe, start: Start) -> str | None:
    """Return the better of some runs by validation, or of a run's snapshots the one to take."""
    if folders[0].name != "snapshots":
        better = max(folders, key=lambda each: standing(validation_score(each))) if len(folders) > 1 else folders[0]
        return str(better)
    run = Run.open(folders[0].parent)
    best = run.metrics()["best_epoch"]
    accuracies = {int(row["epoch"]): float(row["val_accuracy"]) for row in run.history() if "val_accuracy" in row}
    others = {
        name: accuracies[epoch]
        for epoch, name in snapshot_epochs(recipe, start).items()
        if epoch != best and epoch in accuracies
    }
    # The paper takes a snapshot at an accuracy of .99; where none got there, the best is nearest to it.
    enough = [name for name, accuracy in others.items() if accuracy >= SNAPSHOT_ACCURACY]
    name = enough[0] if enough else max(others, key=others.get, default=None)
    return str(folders[0] / name) if name else None


def _outcome(planned: PlannedRun) -> dict:
    run = Run.open(planned.folder)
    asked = {name: getattr(planned, name) for name in ("node", "config", "protocol", "seed")}
    return {"run": str(planned.folder), "init": run.settings["init"], **asked, **run.metrics()}
