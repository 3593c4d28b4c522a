"""Table 1 of Koné & Boulmane (2018) from one command: every run it needs, and their trees."""

import itertools
import time
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np

from bach_keras import run_folder as runs
from bach_keras.evidence.results import write_results
from bach_keras.recipe import default_recipe, with_options
from bach_keras.training.best_start import standing
from bach_keras.training.command import ready, run_evaluation, start_from
from bach_keras.training.fit import compiled
from bach_keras.training.phases import Start, phases, snapshot_epochs
from bach_keras.training.stops import Interrupted
from bach_keras.training.train import network, node_files, precision, train_or_go_on
from bach_keras.tree import ROOT, SPECIALISTS, get_node
from bach_keras.wording import counted
from datasets.errors import UserError
from datasets.split_data import default_config, split_data

# The validation accuracy of the snapshot that the paper's ensemble takes beside the best epoch.
SNAPSHOT_ACCURACY = 0.99


@dataclass(frozen=True)
class Job:
    """One run to train.

    Attributes:
        folder: its run folder.
        node: carci, norbe or invis.
        config: bach, bisque, bach_bisque or phantom.
        protocol: of its split.
        seed: of its recipe.
        parent: the folder of the run it starts from; None for the common start.
        until: the folder of the run whose loss it stops at; None but for the whole set.
    """

    folder: Path
    node: str
    config: str
    protocol: str
    seed: int
    parent: Path | None = None
    until: Path | None = None


@dataclass(frozen=True)
class Tree:
    """One joined system to score.

    Attributes:
        folder: where its evaluation goes.
        row: ``init``, ``init+ext``, ``ensemble`` (its members that kept validation images) or ``full ensemble``.
        config, protocol, seed: what it is scored on.
        members: node -> its members, each the run folders of which the better by validation is taken; a folder
            ``RUN/snapshots`` stands for one of that run's snapshots.
    """

    folder: Path
    row: str
    config: str
    protocol: str
    seed: int
    members: dict[str, list[tuple[Path, ...]]]


def plan(config: str, protocols, seeds, out: Path, start: str) -> tuple[list[Job], list[Tree]]:
    """Return the runs in the order they depend on each other, and the trees made of them.

    The paper's Init is ``bach`` and its Init + Ext ``bach_bisque``, whose plan holds both. ``phantom`` stands in for
    Init. ``bisque`` trains carci alone, for it has no normal images and does not tell the carcinomas apart.

    Args:
        config: which data.
        protocols: of the splits, each planned on its own.
        seeds: of the recipes.
        out: folder for everything.
        start: what to call the common start, e.g. ``imagenet``.
    """
    jobs, trees = [], []
    inner = "bach" if config == "bach_bisque" else config
    for protocol, seed in itertools.product(protocols, seeds):
        place = out / f"{protocol.replace(':', '-').replace('/', '-')}-seed{seed}"

        def job(name, node, data, rule=protocol, parent=None, until=None, *, place=place, seed=seed):
            jobs.append(Job(place / name, node, data, rule, seed, parent, until))
            return jobs[-1].folder

        carci = job(f"{inner}-carci", ROOT.name, inner)
        if config == "bisque":
            continue
        plain, tuned, whole = {}, {}, {}
        for node in (specialist.name for specialist in SPECIALISTS):
            plain[node] = job(f"{inner}-{node}-from-{start}", node, inner)
            tuned[node] = job(f"{inner}-{node}-from-carci", node, inner, parent=carci)
        either = {node: (plain[node], tuned[node]) for node in plain}
        init = {ROOT.name: [(carci,)], **{node: [pair] for node, pair in either.items()}}
        trees.append(Tree(place / "tree-init", "init", inner, protocol, seed, init))
        # The snapshot comes last in the paper's list of four.
        joint = {ROOT.name: [(carci,)], "norbe": [either["norbe"]], "invis": [(tuned["invis"],), (plain["invis"],)]}
        told = {ROOT.name: carci, "norbe": tuned["norbe"], "invis": tuned["invis"]}
        if config == "bach_bisque":
            ext = job(f"{config}-carci", ROOT.name, config)
            norbe = (
                job(f"{config}-norbe-from-{start}", "norbe", config),
                job(f"{config}-norbe-from-carci", "norbe", config, parent=ext),
            )
            extended = {ROOT.name: [(ext,)], "norbe": [norbe], "invis": [either["invis"]]}
            trees.append(Tree(place / "tree-init-ext", "init+ext", config, protocol, seed, extended))
            joint[ROOT.name].append((ext,))
            joint["norbe"].append(norbe)
            told |= {ROOT.name: ext, "norbe": norbe[1]}
        joint[ROOT.name].append((carci / "snapshots",))
        trees.append(Tree(place / "tree-ensemble", "ensemble", inner, protocol, seed, joint))
        for node, until in told.items():
            data = inner if node == "invis" else config
            whole[node] = job(f"{data}-{node}-whole", node, data, "all", whole.get(ROOT.name), until)
        full = {node: [*parts, (whole[node],)] for node, parts in joint.items()}
        trees.append(Tree(place / "tree-ensemble-full", "full ensemble", inner, protocol, seed, full))
    return jobs, trees


def reproduce(config, protocols, seeds, out, given, init, data_dir=None, only_plan=False, say=print) -> dict:
    """Train what is not trained yet, score it, and write results.json and results.html.

    Finished runs are kept, cut ones go on, so that the command can be given again at any time.

    Args:
        config: bach, bisque, bach_bisque or phantom; bach where it is prepared, else phantom, if not given.
        protocols, seeds: as ``plan`` takes them.
        out: folder for everything; ``runs/reproduce-<config>`` if not given.
        given: numbers in place of the recipe's own.
        init: the common start, as ``--init`` takes it.
        data_dir: where data sets live.
        only_plan: stop before the first run.
        say: prints a line of progress.

    Returns:
        What results.json holds; empty with ``only_plan``.

    Raises:
        UserError: bad input, or a run that is there was trained otherwise.
        TrainingError: a loss diverged, or the disk is full.
    """
    config = config or default_config(data_dir)
    out = Path(out or Path("runs") / f"reproduce-{config}")
    recipe = with_options(default_recipe(config), **given)
    start = start_from(init, config)
    name = start.init if start.init in ("none", "imagenet") else Path(start.init).stem
    protocols, seeds = dict.fromkeys(protocols), dict.fromkeys(seeds)  # each once
    jobs, trees = plan(config, protocols, seeds, out, name)
    wanted = dict.fromkeys((job.config, job.protocol) for job in jobs)
    data = {key: split_data(*key, data_dir=data_dir) for key in wanted}
    for protocol in protocols:
        if not data[jobs[0].config, protocol].files["validation"]:
            raise UserError(
                f"Table 1 is of validated runs, and protocol {protocol} keeps no validation images: choose paper, "
                "patient or kfold:K/i. What trains on the whole set is planned with them."
            )
    for held in data.values():
        ready(held, say)
        if held.origin["note"]:
            say(held.origin["note"])
    _tell(jobs, data, recipe, start, say)
    if only_plan:
        return {}
    for number, job in enumerate(jobs, 1):
        say(f"run {number} of {len(jobs)}: {job.folder}")
        _train(job, data[job.config, job.protocol], recipe, start, say)
    scores = [_score(tree, data[tree.config, tree.protocol], recipe, start, data_dir, say) for tree in trees]
    trained = [_outcome(job) for job in jobs]
    results = {
        "config": config,
        "recipe": runs.recipe_as_json(recipe),
        "versions": runs.versions(),
        "trees": scores,
        "runs": trained,
    }
    runs.write_json(out / "results.json", results)
    write_results(out / "results.html", results)
    say(f"wrote {Path(out) / 'results.json'} and results.html")
    return results


def _tell(jobs, data, recipe, start, say):
    """Print the plan, and how long its steps should take by a few timed now; start-up and scoring come on top."""
    speeds, total = {}, 0.0
    say(f"{counted(len(jobs), 'run')}:")
    for job in jobs:
        if (job.folder / "metrics.json").is_file():
            say(f"  {job.folder}: finished")
            continue
        begins = start if job.parent is None else Start("parent", weights=job.parent)
        if begins.is_random not in speeds:
            speeds[begins.is_random] = _seconds_per_step(recipe, begins)
        speed = speeds[begins.is_random]
        held = data[job.config, job.protocol]
        count = len(node_files(held, get_node(job.node))["train"])
        # The range tests, then every epoch; validation adds a little.
        updates = count // recipe.batch_size
        sweeps = sum(
            recipe.sweep_steps(phase.epochs * updates) for phase in phases(recipe, begins) if not phase.continues
        )
        steps = recipe.epochs * updates + sweeps
        total += steps * speed
        epochs = f"{'at most ' if job.until else ''}{counted(recipe.epochs, 'epoch')}"
        say(f"  {job.folder}: {epochs} on {counted(count, 'image')}, about {_clock(steps * speed)}")
    say(f"about {_clock(total)} in all" if total else "nothing is left to train")


def _seconds_per_step(recipe, start, steps: int = 3) -> float:
    images = np.zeros((recipe.part_size, recipe.image_size, recipe.image_size, 3), np.float32)
    answers = np.arange(recipe.part_size) % 2
    with precision(recipe.precision):
        trained = compiled(network(recipe), phases(recipe, start)[-1], recipe)
        trained.train_on_batch(images, answers)  # traces
        begun = time.monotonic()
        for _ in range(steps * recipe.accumulate):
            trained.train_on_batch(images, answers)
    return (time.monotonic() - begun) / steps


def _clock(seconds: float) -> str:
    minutes = max(1, round(seconds / 60))
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def _train(job: Job, data, recipe, start, say):
    if job.parent is not None:
        start = Start(str(job.parent), parent=runs.open_run(job.parent))
    until = runs.open_run(job.until) if job.until else None
    try:
        train_or_go_on(data, job.node, start, replace(recipe, seed=job.seed), job.folder, say, until)
    except Interrupted as interrupted:
        interrupted.resume = "Resume by giving the same command again: what is finished is kept."
        raise
    keras.backend.clear_session()  # or every run's graphs would stay in memory


def _score(tree: Tree, data, recipe, start, data_dir, say) -> dict:
    """Evaluate a tree unless that is done, and return its row."""
    specs = {
        node: list(dict.fromkeys(filter(None, (_chosen(folders, recipe, start) for folders in members))))
        for node, members in tree.members.items()
    }
    row = {"row": tree.row, "config": tree.config, "protocol": tree.protocol, "seed": tree.seed, "members": specs}
    if tree.row == "full ensemble" and data.held_out != "test":
        return {**row, "score": None}  # it trained on every labelled image
    told = [spec for given in specs.values() for spec in given]
    done = tree.folder / "metrics.json"
    score = runs.read_system(done) if done.is_file() else {}
    if score.get("members") != told or _newest(told) > done.stat().st_mtime_ns:
        say(f"scoring {tree.folder}")
        members = runs.load_members(specs)
        score = run_evaluation(members, told, tree.config, tree.protocol, 0, None, None, tree.folder, data_dir, say)
    return {**row, "score": score}


def _newest(members: list[str]) -> int:
    """Return when the last of some runs was finished: one trained again in the same place is another."""
    return max((runs.run_folder(spec) / "metrics.json").stat().st_mtime_ns for spec in members)


def _chosen(folders, recipe, start) -> str | None:
    """Return the better of some runs by validation, or of a run's snapshots the one to take."""
    if folders[0].name != "snapshots":
        return str(max(folders, key=standing) if len(folders) > 1 else folders[0])
    run = runs.open_run(folders[0].parent)
    best, history = runs.read_metrics(run)["best_epoch"], runs.read_history(run)
    accuracies = {int(row["epoch"]): float(row["val_accuracy"]) for row in history if "val_accuracy" in row}
    others = {
        name: accuracies[epoch]
        for epoch, name in snapshot_epochs(recipe, start).items()
        if epoch != best and epoch in accuracies
    }
    enough = [name for name, accuracy in others.items() if accuracy >= SNAPSHOT_ACCURACY]
    name = enough[0] if enough else max(others, key=others.get, default=None)
    return str(folders[0] / name) if name else None


def _outcome(job: Job) -> dict:
    run = runs.open_run(job.folder)
    told = {name: getattr(job, name) for name in ("node", "config", "protocol", "seed")}
    return {"run": str(job.folder), "init": run.config["init"], **told, **runs.read_metrics(run)}
