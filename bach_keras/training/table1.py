"""Table 1 of Koné & Boulmane (2018) from one command: every run it needs, and their trees."""

import functools
import itertools
import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bach_keras.evidence.evaluate import evaluate, read_system
from bach_keras.evidence.results import write_results
from bach_keras.hierarchy import Hierarchy
from bach_keras.members import load_members, run_folder
from bach_keras.recipe import Recipe
from bach_keras.run_folder import Run, is_finished, recipe_as_json, versions
from bach_keras.training.alone import alone
from bach_keras.training.best_start import validation_score
from bach_keras.training.building import network, precision
from bach_keras.training.checkpoint import standing
from bach_keras.training.fit import compiled
from bach_keras.training.job import Job
from bach_keras.training.labels import check_whole_tree
from bach_keras.training.phases import phases, snapshot_epochs
from bach_keras.training.spread import Cluster, train_on_cluster
from bach_keras.training.start import Start
from bach_keras.training.stops import Interrupted
from bach_keras.training.train import finish
from bach_keras.tree import NODES, ROOT, SPECIALISTS
from bach_keras.wording import counted
from datasets.errors import UserError, working
from datasets.split_data import SplitData, split_data
from datasets.whole import write_json

LOG = logging.getLogger(__name__)

# The validation accuracy of the snapshot that the paper's ensemble takes beside the best epoch.
SNAPSHOT_ACCURACY = 0.99


@dataclass(frozen=True)
class PlannedRun:
    """One run of the plan."""

    folder: Path
    node: str
    config: str
    protocol: str
    seed: int  # of its recipe
    parent: Path | None = None  # the folder of the run it starts from; None for the common start
    stop_at: Path | None = None  # the folder of the run whose loss it stops at, where it trains on the whole set


@dataclass(frozen=True)
class Tree:
    """One joined system to score."""

    folder: Path  # where its evaluation goes
    row: str  # init, init+ext, ensemble (its members that kept validation images) or full ensemble
    config: str
    protocol: str
    seed: int
    # Node -> its members, each the run folders of which the better by validation is taken; a folder RUN/snapshots
    # stands for one of that run's snapshots.
    members: dict[str, list[tuple[Path, ...]]]


@dataclass(frozen=True)
class Plan:
    """All of Table 1 for one configuration."""

    config: str
    out: Path  # folder for everything
    runs: list[PlannedRun]  # in the order in which they depend on each other
    trees: list[Tree]  # made of them
    data: dict[tuple[str, str], SplitData]  # (config, protocol) -> the images of the runs and trees


def open_plan(config: str, protocols, seeds, out: Path, start: str, data_dir=None) -> Plan:
    """Plan every protocol with every seed, and open the images; ``start`` names the common start, e.g. imagenet."""
    check_whole_tree(config, data_dir)
    runs, trees = [], []
    # Each is planned once, however often it is named.
    for protocol, seed in itertools.product(dict.fromkeys(protocols), dict.fromkeys(seeds)):
        more_runs, more_trees = plan_system(config, protocol, seed, out, start)
        runs += more_runs
        trees += more_trees
    wanted = dict.fromkeys((run.config, run.protocol) for run in runs)
    data = {key: split_data(*key, data_dir=data_dir) for key in wanted}
    for protocol in protocols:
        if not data[runs[0].config, protocol].files["validation"]:
            raise UserError(
                f"Table 1 is of validated runs, and protocol {protocol} keeps no validation images: choose paper, "
                "patient or kfold:K/i. What trains on the whole set is planned with them."
            )
    return Plan(config, out, runs, trees, data)


def plan_system(config: str, protocol: str, seed: int, out: Path, start: str) -> tuple[list[PlannedRun], list[Tree]]:
    """Return the runs of one protocol and seed, and the trees made of them.

    The paper's Init is ``bach`` and its Init + Ext ``bach_bisque``, whose plan holds both. ``phantom`` stands in for
    Init. ``bisque`` trains carci alone, for it has no normal images and does not say which carcinomas are in situ.
    """
    runs, trees = [], []
    inner = "bach" if config == "bach_bisque" else config
    place = out / f"{protocol.replace(':', '-').replace('/', '-')}-seed{seed}"

    def run(name, node, data, rule=protocol, parent=None, stop_at=None):
        runs.append(PlannedRun(place / name, node, data, rule, seed, parent, stop_at))
        return runs[-1].folder

    def tree(name, row, data, members):
        trees.append(Tree(place / name, row, data, protocol, seed, members))

    # Init: carci, and both specialists from both starts.
    carci = run(f"{inner}-carci", ROOT.name, inner)
    if config == "bisque":
        return runs, trees
    plain, tuned = {}, {}
    for node in (specialist.name for specialist in SPECIALISTS):
        plain[node] = run(f"{inner}-{node}-from-{start}", node, inner)
        tuned[node] = run(f"{inner}-{node}-from-carci", node, inner, parent=carci)
    either = {node: (plain[node], tuned[node]) for node in plain}
    tree("tree-init", "init", inner, {ROOT.name: [(carci,)], **{node: [pair] for node, pair in either.items()}})

    # The ensemble's members that kept validation images, in the order of the paper's lists.
    joint = {ROOT.name: [(carci,)], "norbe": [either["norbe"]], "invis": [(tuned["invis"],), (plain["invis"],)]}
    stops = {ROOT.name: carci, "norbe": tuned["norbe"], "invis": tuned["invis"]}
    if config == "bach_bisque":
        # Init + Ext: BISQUE does not say which carcinomas are in situ, so invis stays Init's.
        ext = run(f"{config}-carci", ROOT.name, config)
        norbe = (
            run(f"{config}-norbe-from-{start}", "norbe", config),
            run(f"{config}-norbe-from-carci", "norbe", config, parent=ext),
        )
        extended = {ROOT.name: [(ext,)], "norbe": [norbe], "invis": [either["invis"]]}
        tree("tree-init-ext", "init+ext", config, extended)
        joint[ROOT.name].append((ext,))
        joint["norbe"].append(norbe)
        stops |= {ROOT.name: ext, "norbe": norbe[1]}
    joint[ROOT.name].append((carci / "snapshots",))
    tree("tree-ensemble", "ensemble", inner, joint)

    # The members that train on the whole set, each until the loss of a validated run's best epoch.
    whole = {}
    for node, stop_at in stops.items():
        data = inner if node == "invis" else config
        whole[node] = run(f"{data}-{node}-whole", node, data, "all", whole.get(ROOT.name), stop_at)
    full = {node: [*parts, (whole[node],)] for node, parts in joint.items()}
    tree("tree-ensemble-full", "full ensemble", inner, full)
    return runs, trees


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
