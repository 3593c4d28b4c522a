"""The plan of Table 1 of Koné & Boulmane (2018): every run it needs, and the trees made of them."""

import itertools
from dataclasses import dataclass
from pathlib import Path

from bach_keras.training.labels import check_whole_tree
from bach_keras.tree import ROOT, SPECIALISTS
from datasets.errors import UserError
from datasets.split_data import SplitData, split_data


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
