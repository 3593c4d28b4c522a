"""Training from several starts, and keeping the better by validation (Koné & Boulmane 2018, section 3.3)."""

import logging
from dataclasses import replace
from pathlib import Path

from bach_keras.evidence.metrics import in_words
from bach_keras.run_folder import Run
from bach_keras.run_place import check_destination, share_run
from bach_keras.training.checkpoint import WEIGHTED_ACCURACY, standing
from bach_keras.training.job import Job
from bach_keras.training.start import Start
from bach_keras.training.stops import Interrupted, writing
from bach_keras.training.train import finish
from datasets.errors import UserError

LOG = logging.getLogger(__name__)


def train_best(job: Job, starts: dict[str, Start], overwrite: bool = False) -> dict:
    """Train a job from each of several starts, and make the better run the job's; return its ``metrics.json``.

    Each is a run of its own, ``<folder>-from-<name>``, and is left for an ensemble. Those that are finished are not
    trained again, and one that was interrupted is resumed. The job's own start is not looked at.
    """
    if not job.data.files.get("validation"):
        raise UserError(
            f"--init best chooses by validation images, and protocol {job.data.protocol} keeps none: "
            "choose another --protocol or --init."
        )
    check_destination(job.folder, overwrite)
    jobs = {
        name: replace(
            job,
            start=start,
            recipe=start.adapted(job.recipe),
            folder=job.folder.with_name(f"{job.folder.name}-from-{name}"),
        )
        for name, start in starts.items()
    }
    # All starts are checked before the first is trained, which may take hours.
    for each in jobs.values():
        each.check_validation()
    # Each is resumed by itself, so the command is the same as before.
    try:
        results = {name: finish(each) for name, each in jobs.items()}
    except Interrupted as interrupted:
        interrupted.resume = "Resume by giving the same command again: what is finished is kept."
        raise
    scores = {name: validation_score(each.folder) for name, each in jobs.items()}
    better = max(scores, key=lambda name: standing(scores[name]))
    words = {name: in_words(Run.open(each.folder).metrics()) for name, each in jobs.items()}
    listed = ", ".join(f"{name} {words[name]} and loss {at['loss']:.4f}" for name, at in scores.items())
    LOG.info(f"by validation {better} is the better start: {listed}; both runs are kept")
    candidates = {name: {"run": str(jobs[name].folder), **at} for name, at in scores.items()}
    chosen = {"init": "best", "started_from": better, "candidates": candidates}
    with writing(job.folder):
        share_run(jobs[better].folder, job.folder, chosen, overwrite)
    return results[better]


def validation_score(folder: Path) -> dict[str, float]:
    """Return a finished run's validation accuracy and loss at its best epoch; ``standing`` ranks them.

    Of a run with class weights both are weighted, as they are where it chooses its best epoch.
    """
    run = Run.open(folder)
    metrics, best = run.metrics(), run.best_row()
    if not ("accuracy" in metrics and "val_loss" in best):
        raise UserError(f"{folder} kept no validation images, so it cannot be ranked: name another run.")
    accuracy = float(best.get(f"val_{WEIGHTED_ACCURACY}", metrics["accuracy"]))
    return {"accuracy": accuracy, "loss": float(best["val_loss"])}
