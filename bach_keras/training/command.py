"""The evaluation."""

import logging
from pathlib import Path

from bach_keras.evidence import evaluate as evidence
from bach_keras.evidence.metrics import in_words
from bach_keras.evidence.report import write_report
from bach_keras.evidence.stains import in_words as stains_in_words
from bach_keras.hierarchy import Hierarchy
from bach_keras.members import run_folder
from bach_keras.run_folder import Run
from datasets.errors import UserError
from datasets.whole import write_json

LOG = logging.getLogger(__name__)


def evaluate_system(system, data, split, out, run_folders=()) -> dict:
    """Evaluate a tree, and write metrics.json, predictions.csv and report.html."""
    config, protocol = data.config, data.protocol
    split = split or data.held_out
    files = data.files.get(split)
    if not files:
        raise UserError(f"Protocol {protocol} on {config} has no {split} images: choose another --split or --protocol.")
    system = Hierarchy(system) if isinstance(system, list) else system
    trained_on, chosen_on = system.provenance.trained_on, system.provenance.chosen_on
    protocols, configs = system.provenance.protocols, list(system.configs)
    if not trained_on:
        raise UserError("This system does not say which images trained it, so no leak could be seen: export it again.")
    folders = dict.fromkeys(run_folder(spec) for spec in run_folders)
    for folder in folders:
        Run.open(folder).best_row()  # what the report will show
    result, rows = evidence.evaluate(system, data.images(files), files, trained_on, chosen_on)
    mixed = evidence.mixed_splits(protocol, data.files, protocols, trained_on, chosen_on)
    notes = [note for note in (data.origin["note"], mixed) if note]
    result |= {
        "config": config,
        "protocol": protocol,
        "split": split,
        "split_notes": notes,
        "members": list(run_folders),
        "member_configs": configs,
    }
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "metrics.json", result)
    evidence.write_predictions(out / "predictions.csv", rows)
    write_report(out / "report.html", result, list(folders))
    LOG.info(f"four-class accuracy {in_words(result)}, protocol {protocol}")
    for note in notes:
        LOG.info(note)
    if "stains" in result:
        LOG.info(stains_in_words(result["stains"]))
    if "phantom" in configs:
        LOG.info("WARNING: this system learned from synthetic phantom images. Its answers about tissue mean NOTHING.")
    if result["chosen_on"]:
        LOG.info(f"{result['chosen_on']} of these images also chose a member's epoch or init")
    for name, score in result["nodes"].items():
        LOG.info(f"  {name} {in_words(score)}")
    LOG.info(f"wrote {out / 'metrics.json'}, predictions.csv and report.html")
    return result
