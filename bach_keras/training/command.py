"""What the training commands resolve before the work: data, start, recipe, folder."""

from pathlib import Path

from bach_keras.evidence import evaluate as evidence
from bach_keras.evidence.metrics import in_words
from bach_keras.evidence.report import write_report
from bach_keras.hierarchy import Hierarchy
from bach_keras.network.weights import default_path
from bach_keras.training import runs
from bach_keras.training.data import default_config, open_data
from bach_keras.training.recipe import default_recipe, with_options
from bach_keras.training.train import Start, node_files, resume, train
from bach_keras.tree import get_node
from datasets.bach_bisque import prepare
from datasets.splits import get_split


def run_training(node, config, protocol, init, given, run_dir, resumed, overwrite, data_dir, say) -> dict:
    """Train a node, or go on with it, from what the user gave; the rest takes its defaults.

    Raises:
        ValueError, FileNotFoundError: bad input, in one sentence, before anything is written.
    """
    config = config or default_config(data_dir)
    run_dir = run_dir or Path("runs") / f"{config}-{node}"
    if resumed:
        run = runs.open_run(run_dir)
        if run.config["node"] != node:
            raise ValueError(f"{run_dir} is a run of {run.config['node']}, not of {node}.")
        say(f"train {node}: resuming {run_dir}")
        data = _data(run.config["config"], run.config["protocol"], data_dir, say)
        return resume(data, _start(run.config["init"], run.config["config"]), run, say)
    recipe = with_options(default_recipe(config), **given)
    start = _start(init, config)
    say(
        f"train {node}: config {config}, protocol {protocol}, init {start.init}, image size {recipe.image_size}, "
        f"batch {recipe.batch_size}, {recipe.epochs} epochs, "
        f"rate {'auto' if recipe.lr is None else recipe.lr}, seed {recipe.seed}, run folder {run_dir}"
    )
    runs.check_destination(run_dir, overwrite)
    data = _data(config, protocol, data_dir, say)
    node_files(data, get_node(node))
    return train(data, node, start, recipe, run_dir, overwrite, say)


def run_evaluation(system, run_folders, config, protocol, split, out, data_dir, say) -> dict:
    """Evaluate a tree, and write metrics.json, predictions.csv and report.html.

    Args:
        system: an ``Export``, or a list of members.
        run_folders: the members' runs, for the report.
        config, protocol, split, data_dir: which images.
        out: folder to write.
        say: prints a line.

    Raises:
        ValueError: a leak, or members that do not fit together.
    """
    config = config or default_config(data_dir)
    data = open_data(config, protocol, data_dir=data_dir)
    split = split or data.held_out
    files = data.files.get(split)
    if not files:
        raise ValueError(f"Protocol {protocol} on {config} has no {split} images: choose another --split.")
    if isinstance(system, list):
        members, system = system, Hierarchy(system)
        trained_on = frozenset().union(*(member.trained_on for member in members))
        chosen_on = frozenset().union(*(member.chosen_on for member in members))
    else:
        trained_on, chosen_on = system.trained_on, system.chosen_on
    result, rows = evidence.evaluate(system, data.images(files), files, trained_on, chosen_on, say)
    result |= {"config": config, "protocol": protocol, "split": split}
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    runs.write_json(out / "metrics.json", result)
    evidence.write_predictions(out / "predictions.csv", rows)
    folders = dict.fromkeys(_run_folder(spec) for spec in run_folders)
    write_report(out / "report.html", result, list(folders))
    say(f"four-class accuracy {in_words(result)}")
    if result["chosen_on"]:
        say(f"{result['chosen_on']} of these images also chose a member's epoch or init")
    for name, score in result["nodes"].items():
        say(f"  {name} {in_words(score)}")
    say(f"wrote {out / 'metrics.json'}, predictions.csv and report.html")
    return result


def _data(config, protocol, data_dir, say):
    """Open the data; phantoms are drawn when they are first needed."""
    get_split(config, protocol)
    if config == "phantom" and not prepare.is_prepared(config, data_dir):
        say("drawing the phantom images, once")
        prepare.prepare(config, data_dir=data_dir)
    return open_data(config, protocol, data_dir=data_dir)


def _start(init: str | None, config: str) -> Start:
    init = init or ("none" if config == "phantom" else "imagenet")
    if init == "none":
        return Start(init)
    if init == "imagenet":
        path = default_path()
        if not path.is_file():
            raise ValueError(
                f"There are no ImageNet weights at {path}: get them with 'weights fetch', name a file with "
                "--init FILE.h5, or begin from random weights with --init none."
            )
        return Start(init, weights=path)
    path = Path(init)
    if path.is_dir():
        parent = runs.open_run(path)
        if not parent.is_finished:
            raise ValueError(f"{path} has not finished training, so nothing can start from it: --resume it first.")
        return Start(init, parent=parent)
    if not path.is_file():
        raise ValueError(f"--init {init} is neither imagenet, none, a weights file nor a run folder.")
    return Start(init, weights=path)


def _run_folder(spec: str) -> Path:
    place, _ = runs.place_and_weight(spec)
    return place.parent.parent if place.parent.name == "snapshots" else place
