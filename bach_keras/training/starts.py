"""All of Table 1 from each of several starts, and the starts side by side in one table."""

import logging

from bach_keras.evidence.starts import side_by_side, write_starts
from bach_keras.recipe import Recipe
from bach_keras.run_folder import Run
from bach_keras.training.spread import Cluster
from bach_keras.training.start import Start
from bach_keras.training.table1 import reproduce_table1
from bach_keras.training.table1_plan import Plan
from datasets.errors import UserError, working
from datasets.whole import write_json

LOG = logging.getLogger(__name__)


def reproduce_starts(
    plans: dict[str, tuple[Plan, Start]], recipe: Recipe, only_plan=False, prepare=None, cluster: Cluster | None = None
) -> dict:
    """Reproduce Table 1 from several starts, and write starts.json and starts.html beside their folders.

    Args:
        plans: name of a start -> its plan and itself, at least two; the plans differ in their folders alone, which have
            one parent.
        recipe, only_plan, prepare, cluster: as ``reproduce_table1`` takes them.

    Returns:
        What starts.json holds; empty with ``only_plan``.
    """
    results = {}
    for name, (plan, start) in plans.items():
        LOG.info(f"start {name}:")
        results[name] = reproduce_table1(plan, recipe, start, only_plan, prepare, cluster)
    if only_plan:
        return {}
    (first, _), *_ = plans.values()
    with working():
        result = {
            "config": first.config,
            "starts": {name: _origin(start) for name, (_, start) in plans.items()},
            "rows": [{**what, **side_by_side(folders)} for what, folders in _judged(plans, results)],
        }
        write_json(first.out.parent / "starts.json", result)
        write_starts(first.out.parent / "starts.html", result)
    LOG.info(f"wrote {first.out.parent / 'starts.json'} and starts.html")
    return result


def check_names(names: list[str]) -> None:
    """Refuse starts of one name, whose runs would lie in one folder."""
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"Two --init are called {name}, and their runs would lie in one folder: rename a file.")


def _origin(start: Start) -> dict:
    facts = start.facts
    return {
        "init": start.init,
        "source": facts.source if facts else None,
        "licence": facts.licence if facts else None,
        "normalisation": facts.normalisation if facts else None,
    }


def _judged(plans, results):
    """Yield what was judged from the starts, and start -> where its predictions are: trees first, then single runs."""
    (first, _), *_ = plans.values()
    for number, tree in enumerate(first.trees):
        scores = {name: result["trees"][number]["score"] for name, result in results.items()}
        if None in scores.values():
            continue  # it trained on every labelled image
        folders = {name: plan.trees[number].folder for name, (plan, _) in plans.items()}
        judged = f"{tree.row}, protocol {tree.protocol}, seed {tree.seed}"
        yield {"judged": judged, "images": next(iter(scores.values()))["split"]}, folders
    for number, planned in enumerate(first.runs):
        if planned.stop_at is not None or planned.parent is not None:
            continue  # it kept no validation images, or starts from another run
        folders = {name: plan.runs[number].folder for name, (plan, _) in plans.items()}
        if all("accuracy" in Run.open(folder).metrics() for folder in folders.values()):
            judged = f"{planned.node} alone on {planned.config}, protocol {planned.protocol}, seed {planned.seed}"
            yield {"judged": judged, "images": "validation"}, folders
