"""The learning rate range test of a node, on its own: the work of the command lr-find."""

import logging
from dataclasses import replace

from bach_keras.recipe import Recipe
from bach_keras.run_folder import recipe_as_json
from bach_keras.training.building import network, seed_everything
from bach_keras.training.fit import compiled, range_test, sweep_steps
from bach_keras.training.job import Job
from bach_keras.training.phases import Phase, phases
from bach_keras.training.start import Start
from datasets.errors import UserError, working
from datasets.whole import whole, write_json

LOG = logging.getLogger(__name__)


def find_rate(job: Job, phase: Phase, metric: str = "loss") -> dict:
    """Sweep the rate of a node as it is when a phase begins, and write the curve; no run is touched.

    A run of the same node is swept at all of its weights. From elsewhere the head is new, also in
    ``middle+head``, before which training would have trained it alone.

    Args:
        job: its ``folder`` gets lr_range_test.json and lr_range_test.png, in place of those that are there; its
            recipe's ``lr_steps`` and ``lr_bounds`` are the sweep's.
        phase: which groups train, as ``choose_phase`` gives it.
        metric: ``loss`` or ``accuracy``.

    Returns:
        What lr_range_test.json holds: what was swept, and what ``LRRangeTest.result`` says.
    """
    recipe, start = job.recipe, job.start
    seed_everything(recipe.seed)
    cache = job.cache("train")
    model = network(recipe)
    same_node = start.parent is not None and start.parent.node == job.node.name
    replace(start, keeps_head=same_node).load(model)
    job.folder.mkdir(parents=True, exist_ok=True)  # where that fails, no sweep is lost
    LOG.info(f"{phase.name}: {sweep_steps(cache, phase, recipe)} steps on {len(cache)} images")
    test = range_test(compiled(model, phase, recipe), cache, phase, recipe, metric)
    try:
        found = test.result()
    except ValueError as error:  # the callback's word for a curve that cannot be read
        raise UserError(str(error)) from error
    result = {
        "node": job.node.name,
        "config": job.data.config,
        "protocol": job.data.protocol,
        "init": start.init,
        "phase": phase.name,
        "recipe": recipe_as_json(recipe),
        **found,
    }
    with working():
        write_json(job.folder / "lr_range_test.json", result)
        with whole(job.folder / "lr_range_test.png") as partial:
            test.plot(partial)
    return result


def choose_phase(recipe: Recipe, start: Start, name: str | None) -> Phase:
    """Return the phase of that name, or without a name the first; refuses one that training does not go through."""
    # A phase that continues another one keeps its rate, so there is nothing to find.
    planned = [phase for phase in phases(recipe, start) if not phase.continues]
    found = [phase for phase in planned if name in (None, phase.name)]
    if not found:
        names = " or ".join(dict.fromkeys(phase.name for phase in planned))
        raise UserError(f"From --init {start.init} training has no phase {name!r}: choose --phase {names}.")
    return found[0]
