"""A tree, or one node, scored on labelled images that it never trained on."""

import logging
import os
from collections.abc import Iterable
from pathlib import Path

from bach_keras import run_fields
from bach_keras.evidence import looks, metrics, predictions, stains
from bach_keras.evidence.error_sections import MOST_PICTURES, wrong
from bach_keras.evidence.likeness import in_words as likeness_in_words
from bach_keras.evidence.likeness import training_of
from bach_keras.evidence.notes import chosen_in_words
from bach_keras.evidence.report import write_report
from bach_keras.evidence.rows import answer
from bach_keras.evidence.scoring import accuracy_in_words, score
from bach_keras.evidence.stability_card import CARD
from bach_keras.evidence.thumbnails import thumbnails
from bach_keras.evidence.unjudged import unjudged_in_words
from bach_keras.evidence.verify_result import verify_stability
from bach_keras.fields import read_object
from bach_keras.members import run_folder
from bach_keras.run_folder import Run
from bach_keras.tree import NODES
from bach_keras.wording import counted
from datasets.config_names import named_parts, own_parts
from datasets.errors import UserError, working
from datasets.escape import for_csv
from datasets.labels import LABELS
from datasets.sets import note_on_patients, patients_in_common
from datasets.whole import whole, write_json

LOG = logging.getLogger(__name__)

# In place of a split: every image that no member saw in training.
ALL = "all"


def evaluate(system, data, split: str | None, out: Path, members: Iterable[str] = ()) -> dict:
    """Score a system, and write predictions.csv, report.html and metrics.json.

    Args:
        system: a ``Hierarchy`` or an ``Export``.
        data: a ``SplitData``.
        split: the split that judges, or "all", every image that no member trained on; see ``default_split``.
        out: the folder to write into.
        members: the runs that the report shows, as ``load_members`` takes them.

    Returns:
        What metrics.json holds.

    Raises:
        UserError: an image trained a member, no image has a label that this system can be judged by, a run's files are
            damaged, or an answer is NaN or infinity. Nothing has been written then.
    """
    out, members = Path(out), list(members)
    split = split or default_split(system, data)
    names = judging(system, data, split)
    folders = dict.fromkeys(run_folder(spec) for spec in members)
    for folder in folders:
        run = Run.open(folder)
        # The report reads these files, after minutes of work.
        run.best_row()
        run.range_tests()
    check_folder(out, (predictions.FILE, "report.html", "metrics.json"))

    with working():
        rows = answer(system, data, names)
        content = predictions.as_csv(rows, system.digest)
        answered, ranges = _read_back(content), getattr(system, "ranges", None)
        result = {
            **score(
                answered,
                system.view.stain_normalisation,
                ranges and ranges.bounds,
                ranges and training_of(ranges),
            ),
            "views": system.views,
            "config": data.config,
            "protocol": data.protocol,
            "split": split,
            "split_notes": notes(system, data, split, names),
            "members": members,
            "member_configs": list(system.configs),
        }
        if ranges:
            result["looks"] = looks.looks([row["look"] for row in rows], ranges)
        if card := _stability(out, answered):
            result["stability"] = card
        out.mkdir(parents=True, exist_ok=True)
        with whole(out / predictions.FILE) as partial:
            partial.write_bytes(content)
        # Predictions name a file without its control characters, and the data set as it is.
        own_name = {for_csv(row["filename"]): row["filename"] for row in rows}
        shown = {own_name[error["filename"]]: error["filename"] for error in wrong(result)[:MOST_PICTURES]}
        small = thumbnails(data, list(shown))
        pictures = {written: small[name] for name, written in shown.items()}
        write_report(out / "report.html", result, answered.rows, list(folders), pictures)
        # It comes last, as it says to whoever reads the folder that the evaluation is complete.
        write_json(out / "metrics.json", result)

    _log(result)
    LOG.info(f"wrote {out / 'metrics.json'}, {predictions.FILE} and report.html")
    return result


def default_split(system, data) -> str:
    """Return the split that judges where none is asked for: the one that is held out.

    The user's own images were not split for this system if none of them trained it: all of them judge then.
    """
    is_own = own_parts(data.config) == named_parts(data.config)
    return ALL if is_own and not system.provenance.trained(data.prepared.digests) else data.held_out


def judging(system, data, split: str) -> list[str]:
    """Return the images that judge a system; refuses those that trained it, and a split without any."""
    digests, provenance = data.prepared.digests, system.provenance
    if split == ALL:
        names = sorted(set(data.labels) - set(provenance.trained(digests)))
        if not names:
            raise UserError(
                f"Every image of {data.config} trained a member, so none is left to judge: name another --config."
            )
    else:
        names = data.files.get(split, [])
    if not names:
        raise UserError(
            f"Protocol {data.protocol} on {data.config} has no {split} images: choose another --split or --protocol."
        )
    provenance.check_leaks({name: digests.get(name, "") for name in names})
    nodes = system.nodes
    # What no node can judge, such as in situ or invasive by norbe alone, is left out.
    labels = LABELS if len(nodes) > 1 else tuple(NODES[nodes[0]].targets)
    names = [name for name in names if data.labels.get(name) in labels]
    if not names:
        raise UserError(f"None of these images is labelled {', '.join(labels)}, so there is nothing to judge by.")
    return names


def _stability(out: Path, answered: predictions.Predictions) -> dict | None:
    """Return the stability card that is in the folder, if it is of the same system, and of images that judged it."""
    if not (out / CARD).exists():
        return None
    try:
        card, found = verify_stability(out, answered)
        reason = next(iter(found.differences), None)
    except UserError as error:
        reason = str(error).rstrip(".")
    if reason is None:
        return card
    LOG.warning(f"The report leaves out {out / CARD}: {reason}.")
    return None


def _read_back(content: bytes) -> predictions.Predictions:
    """Return what a predictions file will say, so that what is judged is what anyone who reads it finds."""
    try:
        return predictions.parse(content, predictions.FILE)
    except UserError as error:
        raise UserError(f"The system gives answers that no tree of this project gives: {error}") from error


def notes(system, data, split: str, names: list[str]) -> list[str]:
    """Return sentences on what the choice of images cannot exclude, and on what they cannot judge."""
    provenance, digests = system.provenance, data.prepared.digests
    last = [
        provenance.namesakes({name: digests.get(name, "") for name in names}),
        note_on_patients(patients_in_common(provenance.trained_on, names, data.data_dir)),
        _unseen(system, data),
        unjudged_in_words(system.nodes, {data.labels[name] for name in names}),
    ]
    if split != ALL:
        mixed = provenance.mixed_with(data.protocol, data.files, digests)
        return [note for note in (data.origin["note"], mixed, *last) if note]
    trained = provenance.trained(digests)
    patients = {data.groups.get(name, "") for name in trained} - {""}
    which = f"The images are all those of {data.config} that no member trained on, whatever split they are in."
    notes = [which if trained else f"No image of {data.config} trained a member, so those of every split judge."]
    if others := {name: other for name, other in trained.items() if name != other}:
        notes.append(
            f"{counted(len(others), 'image')} trained a member under another name and did not judge it: "
            f"{provenance.in_words(others, digests)}."
        )
    if shared := sum(data.groups.get(name, "") in patients for name in names):
        notes.append(f"{shared} of them are of patients whose other images trained a member, so the score flatters.")
    if unknown := sum(not data.groups.get(name, "") for name in names):
        notes.append(f"The patients of {unknown} of them are unknown, and may have trained a member too.")
    return [*notes, *filter(None, last)]


def _unseen(system, data) -> str:
    """Return a sentence where a copy of a training image could be among the user's own and not be seen."""
    count = system.provenance.without_pixels
    if not count or not own_parts(data.config):
        return ""
    return (
        f"Of {counted(count, 'image')} that trained a member only the name is known, as an earlier version trained it: "
        "a copy under another name would not be noticed."
    )


def check_folder(out: Path, files: Iterable[str]) -> None:
    """Refuse a folder that cannot be made, or not take these files, before minutes of work are lost to it."""
    there = next(place for place in (out, *out.absolute().parents) if place.exists())
    if not there.is_dir():
        raise UserError(f"{there} is a file, so --out {out} cannot be a folder: choose another.")
    if not os.access(there, os.W_OK):
        raise UserError(f"{there} cannot be written to: choose another --out.")
    for path in (out / name for name in files):
        if path.exists() and not path.is_file():
            raise UserError(f"{path} is there, and not a file that could be replaced: choose another --out.")


def _log(result: dict) -> None:
    LOG.info(f"{accuracy_in_words(result)}, protocol {result['protocol']}")
    for note in result["split_notes"]:
        LOG.info(note)
    if "stains" in result:
        LOG.info(stains.in_words(result["stains"]))
    warn_of_phantoms(result["member_configs"])
    if words := chosen_in_words(result):
        LOG.info(words)
    if said := result.get("likeness"):
        LOG.info(" ".join([likeness_in_words(said), *looks.in_words(result["looks"])]))
    elif own_parts(result["config"]):
        LOG.info(
            "How these images differ from those that trained the system is not known: runs, and exports that were made "
            "without the training images, keep no measures of them. Export the runs where these are prepared, and "
            "evaluate with --model."
        )
    for name, node_score in result["nodes"].items():
        if name != result["headline"]:
            absent = f"; no image is {' or '.join(node_score['absent'])}" if node_score["absent"] else ""
            LOG.info(f"  {name} {metrics.in_words(node_score)}{absent}")


def warn_of_phantoms(learned_from: Iterable[str]) -> None:
    if "phantom" in learned_from:
        LOG.warning(
            "WARNING: this system learned from synthetic phantom images. Its answers about tissue mean NOTHING."
        )


def read_system(path: Path) -> dict:
    """Return what the metrics.json of an evaluation holds."""
    try:
        return run_fields.check_system(read_object(path))
    except UserError as error:
        raise UserError(f"{path} is not what an evaluation writes ({error}): delete it to score again.") from error
