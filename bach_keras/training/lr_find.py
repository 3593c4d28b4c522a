"""The learning rate range test of a node, on its own: the work of the command lr-find."""

from pathlib import Path

from bach_keras import run_folder as runs
from bach_keras.recipe import Recipe
from bach_keras.training import batches as pipeline
from bach_keras.training import checkpoint as kept
from bach_keras.training.fit import compiled, range_test, sweep_steps
from bach_keras.training.phases import Phase, Start, phases
from bach_keras.training.train import load_start, network, node_files, seed_everything
from bach_keras.tree import get_node
from datasets.errors import UserError
from datasets.labels import LABELS

NO_LAYER = r"(?!)"


def find_rate(
    data,
    node_name: str,
    start: Start,
    phase: Phase,
    recipe: Recipe,
    out: Path,
    metric: str = "loss",
    say=print,
) -> dict:
    """Sweep the rate of a node as it is when a phase begins, and write the curve; no run is touched.

    A run of the same node is swept at all of its weights. From elsewhere the head is new, also in
    ``middle+head``, before which training would have trained it alone.

    Args:
        data: a ``datasets.split_data.SplitData``: the configuration under a protocol.
        node_name: ``carci``, ``norbe`` or ``invis``.
        start: where the weights come from.
        phase: which groups train, as ``choose_phase`` gives it.
        recipe: the numbers; ``lr_steps`` and ``lr_bounds`` are the sweep's.
        out: folder for lr_range_test.json and lr_range_test.png; what is there under these names is replaced.
        metric: ``loss`` or ``accuracy``.
        say: prints a line of progress.

    Returns:
        What lr_range_test.json holds: what was swept, and what ``LRRangeTest.result`` says.

    Raises:
        UserError: the data cannot train this node, or the curve cannot be read.
    """
    node = get_node(node_name)
    files = node_files(data, node)["train"]
    seed_everything(recipe.seed)
    targets = {LABELS.index(label): answer for label, answer in node.targets.items()}
    cache = pipeline.cache_images(data.images(files), targets, recipe)
    model = network(recipe)
    if start.parent is not None and start.parent.config["node"] == node.name:
        kept.copy_weights(runs.read_model(start.parent.model_path), model, but=NO_LAYER)
    else:
        load_start(model, start)
    say(f"{phase.name}: {sweep_steps(cache, phase, recipe)} steps on {len(cache)} images")
    test = range_test(compiled(model, phase, recipe), cache, phase, recipe, metric)
    result = {
        "node": node.name,
        "config": data.config,
        "protocol": data.protocol,
        "init": start.init,
        "phase": phase.name,
        "recipe": runs.recipe_as_json(recipe),
        **test.result(),
    }
    out.mkdir(parents=True, exist_ok=True)
    runs.write_json(out / "lr_range_test.json", result)
    test.plot(out / "lr_range_test.png")
    return result


def choose_phase(recipe: Recipe, start: Start, name: str | None) -> Phase:
    """Return the phase of that name, or the first.

    Args:
        recipe: the numbers.
        start: where the weights come from.
        name: ``head``, ``middle+head`` or ``all``; None for the first that training goes through.

    Raises:
        UserError: training from this start goes through no such phase.
    """
    planned = [phase for phase in phases(recipe, start) if not phase.continues]
    found = [phase for phase in planned if name in (None, phase.name)]
    if not found:
        names = " or ".join(dict.fromkeys(phase.name for phase in planned))
        raise UserError(f"From --init {start.init} training has no phase {name!r}: choose --phase {names}.")
    return found[0]
