"""What the training commands resolve before the work: data, start, recipe, folder."""

from dataclasses import replace
from pathlib import Path

from bach_keras import run_folder as runs
from bach_keras.evidence.evaluate import evaluate
from bach_keras.hierarchy import Hierarchy
from bach_keras.network.weights import default_path
from bach_keras.recipe import default_recipe, with_options
from bach_keras.training import devices as strategy
from bach_keras.training.best_start import train_best
from bach_keras.training.lr_find import choose_phase, find_rate
from bach_keras.training.train import Start, node_files, resume, train
from bach_keras.tree import ROOT, get_node
from bach_keras.wording import counted
from datasets.bach_bisque import prepare
from datasets.errors import UserError
from datasets.split_data import data_of_run, default_config, open_data, split_data


def run_training(
    node, config, protocol, split_seed, patients, init, until, given, run_dir, overwrite, tensorboard, data_dir, say
) -> dict:  # fmt: skip
    """Train a node from what the user gave; the rest takes its defaults.

    Raises:
        UserError: bad input, in one sentence, before anything is written.
    """
    strategy.choose()  # before anything uses a device
    config = config or default_config(data_dir)
    run_dir = run_dir or Path("runs") / f"{config}-{node}"
    recipe = with_options(default_recipe(config), **given)
    starts = _starts(init, config, node, run_dir)
    if until and protocol != "all":
        raise UserError(f"--until is for --protocol all, which keeps no validation images; {protocol} keeps some.")
    until = runs.open_run(until) if until else None
    say(
        f"train {node}: config {config}, protocol {_split_in_words(protocol, split_seed, patients)}, "
        f"init {' or '.join(start.init for start in starts.values())}, image size {recipe.image_size}, "
        f"batch {recipe.batch_size}, {'at most ' if until else ''}{counted(recipe.epochs, 'epoch')}, "
        f"crops {recipe.crops}, stain jitter {recipe.stain_jitter:g}, brightness {recipe.brightness:g}, "
        f"stain normalisation {recipe.stain_normalisation}, "
        f"rate {'auto' if recipe.lr is None else recipe.lr}, seed {recipe.seed}, run folder {run_dir}"
        f"{strategy.in_words()}"
    )
    if len(starts) > 1 and strategy.across_hosts():
        raise UserError("--init best is for one host: on several train from one start, then from the other.")
    runs.check_destination(run_dir, overwrite)
    data = ready(split_data(config, protocol, split_seed, data_dir, patients), say)
    if data.origin["note"]:
        say(data.origin["note"])
    node_files(data, get_node(node))
    if len(starts) > 1:
        return train_best(data, node, starts, recipe, run_dir, overwrite, say, until=until, tensorboard=tensorboard)
    (start,) = starts.values()
    return train(data, node, start, recipe, run_dir, overwrite, say, until, tensorboard)


def resume_training(node, asked, given, run_dir, allow_changes, data_dir, say) -> dict:
    """Go on with a run; it keeps its data, its split and its start, and its recipe but for what is given.

    Args:
        node: carci, norbe or invis.
        asked: what the user said of config, protocol, split_seed, patients, init and until; it must be the run's.
        given: numbers in place of the recipe's own.
        run_dir: the run folder; the default place of the config if not given.
        allow_changes: go on though recipe, versions or images differ.
        data_dir: where data sets live.
        say: prints a line.

    Raises:
        UserError: bad input, in one sentence, before anything is written.
    """
    strategy.choose()  # before anything uses a device
    run_dir = run_dir or Path("runs") / f"{asked.get('config') or default_config(data_dir)}-{node}"
    run = runs.open_run(run_dir)
    differs = runs.differences(run, {"node": node, **_as_in_config(asked, run.config)})
    if differs:
        raise UserError(
            f"{run_dir} was begun otherwise: {'; '.join(differs)}. A run that is resumed keeps its data and its start: "
            "leave these options out, or train anew in another --run-dir."
        )
    say(f"train {node}: resuming {run_dir}{strategy.in_words()}")
    data = ready(data_of_run(run.config, data_dir), say)
    start = start_from(run.config["init"], run.config["config"])
    return resume(data, start, run, say, with_options(run.recipe, **given), allow_changes)


def _as_in_config(asked: dict, begun: dict) -> dict:
    """Return what the user asked for as config.json would say it."""
    wanted = {name: str(asked[name]) for name in ("config", "init") if asked.get(name)}
    if asked.get("until"):
        wanted["until"] = {**begun.get("until", {}), "run": str(asked["until"])}
    if {"protocol", "split_seed", "patients"} & set(asked):
        config, protocol = (asked.get(name, begun[name]) for name in ("config", "protocol"))
        seed = asked.get("split_seed", begun.get("split_origin", {}).get("seed", 0))
        data = split_data(config, protocol, seed, patients=asked.get("patients"))
        wanted |= {"protocol": protocol, "split": data.files}
    return wanted


def run_lr_find(node, config, protocol, split_seed, patients, init, phase, metric, out, data_dir, say, **given) -> dict:
    """Run the range test on a node from what the user gave; the rest takes its defaults.

    Raises:
        UserError: bad input, in one sentence, or a curve that cannot be read.
    """
    config = config or default_config(data_dir)
    out = out or Path("runs") / f"{config}-{node}-lr-find"
    recipe = default_recipe(config)
    low, high = (given.pop(name) for name in ("min_lr", "max_lr"))
    bounds = tuple(own if new is None else new for own, new in zip(recipe.lr_bounds, (low, high), strict=True))
    # What is found is the rate, so none is given.
    recipe = replace(with_options(recipe, lr_bounds=bounds, **given), lr=None)
    start = start_from(init, config)
    chosen = choose_phase(recipe, start, phase)
    say(
        f"lr-find {node}: config {config}, protocol {_split_in_words(protocol, split_seed, patients)}, "
        f"init {start.init}, phase {chosen.name}, image size {recipe.image_size}, batch {recipe.batch_size}, "
        f"rates {bounds[0]:g} to {bounds[1]:g}, seed {recipe.seed}, folder {out}"
    )
    data = ready(split_data(config, protocol, split_seed, data_dir, patients), say)
    result = find_rate(data, node, start, chosen, recipe, out, metric, say)
    share = "a tenth" if metric == "loss" else "a third"
    say(f"the {metric} diverges at {result['divergence']:.2g}; {share} is {result['suggestion']:.2g}")
    if not result["clear"]:
        say(f"the curve of the {metric} is not clear of its noise, so this is a guess; more --steps may tell")
    if result["stopped"] == "end":
        say("the loss did not diverge by the last rate: a higher --max-lr may show where it does")
    say(f"wrote {out / 'lr_range_test.json'} and lr_range_test.png")
    return result


def run_evaluation(system, run_folders, config, protocol, split_seed, patients, split, out, data_dir, say) -> dict:
    """Evaluate a tree, an ``Export`` or a list of members, on the images that a protocol holds out."""
    data = open_data(config or default_config(data_dir), protocol, split_seed, data_dir, patients)
    system = Hierarchy(system) if isinstance(system, list) else system
    return evaluate(system, data, split, out, run_folders)


def _split_in_words(protocol, split_seed, patients) -> str:
    seed = f", split seed {split_seed}" if split_seed else ""
    return f"{protocol}{seed}" + (f", patients by {patients}" if patients else "")


def ready(data, say):
    """Return the data once its images are there; phantoms are drawn when they are first needed."""
    if data.config == "phantom" and not prepare.is_prepared(data.config, data.data_dir):
        say("drawing the phantom images, once")
        prepare.prepare(data.config, data_dir=data.data_dir)
    prepare.describe(data.config, data.data_dir)
    return data


def _starts(init, config, node, run_dir) -> dict[str, Start]:
    """Return the starts to try, by name: several for ``best`` and ``best:RUN``, else the one that is asked for."""
    word, _, named = (init or "").partition(":")
    if word != "best":
        return {"start": start_from(init, config)}
    if node == ROOT.name:
        raise UserError(f"--init best starts a specialist from {ROOT.name} or from elsewhere; {node} cannot.")
    carci = Path(named) if named else run_dir.with_name(f"{config}-{ROOT.name}")
    if not (carci / "config.json").is_file():
        raise UserError(
            f"--init best needs a finished run of {ROOT.name}, and there is none at {carci}: train it, "
            "or name it with --init best:RUN."
        )
    plain = "none" if config == "phantom" else "imagenet"
    return {plain: start_from(plain, config), ROOT.name: start_from(str(carci), config)}


def start_from(init: str | None, config: str) -> Start:
    """Return the start that ``--init`` names; by default ImageNet's weights, and random ones on phantom.

    Raises:
        UserError: there is no such start.
    """
    init = init or ("none" if config == "phantom" else "imagenet")
    if init == "none":
        return Start(init)
    if init == "imagenet":
        path = default_path()
        if not path.is_file():
            raise UserError(
                f"There are no ImageNet weights at {path}: get them with 'weights fetch', name a file with "
                "--init FILE.h5, or begin from random weights with --init none."
            )
        return Start(init, weights=path)
    path = Path(init)
    if path.is_dir():
        parent = runs.open_run(path)
        if not parent.is_finished:
            raise UserError(f"{path} has not finished training, so nothing can start from it: --resume it first.")
        return Start(init, parent=parent)
    if not path.is_file():
        raise UserError(f"--init {init} is neither imagenet, none, a weights file nor a run folder.")
    return Start(init, weights=path)
