"""What the text files of a run must say, checked before any of it is used: others may have changed them."""

import csv
import dataclasses
import io
import json
import types
import typing
from pathlib import Path

from bach_keras.fields import (
    FLAG,
    LINE,
    NAME,
    NOTHING,
    OBJECT,
    PIXELS,
    TEXT,
    TEXTS,
    FieldError,
    Kind,
    check,
    list_of,
    number,
    object_of,
    one_of,
    plain,
    whole,
)
from bach_keras.normalisation import NORMALISATIONS
from bach_keras.recipe import PRECISIONS, WEIGHT_BOUNDS, Recipe
from bach_keras.tree import NODES, TEMPERATURES
from datasets.open_file import open_file

# Far beyond what trains: a recipe that asks for more would not end, or fill the memory.
MAX_WEIGHTS = 300_000_000
MAX_BLOCKS = 100  # ResNet-152 has 50
MAX_EPOCHS = 100_000
MAX_HISTORY = 2**24  # bytes

CONFIG = {
    "node": one_of(*NODES), "config": NAME, "protocol": NAME, "init": LINE, "recipe": OBJECT, "split": object_of(TEXTS),
}  # fmt: skip
CONFIG_MORE = {
    "versions": object_of(TEXT), "split_origin": OBJECT, "images_sha256": TEXT, "until": OBJECT,
    "trained_on": TEXTS, "chosen_on": TEXTS, "pixels": PIXELS, "ancestors": TEXTS, "tensorboard": FLAG,
    "head": one_of("kept"), "temperature": number(*TEMPERATURES), "started_from": LINE, "candidates": object_of(OBJECT),
    "changes": list_of(OBJECT), "weights_origin": OBJECT,
}  # fmt: skip
SPLIT_ORIGIN = {"seed": whole(), "patients_sha256": TEXT | NOTHING, "note": LINE, "patients": object_of(TEXT)}
# The public weights that a run comes from.
WEIGHTS = {"source": LINE}
WEIGHTS_MORE = {"licence": LINE | NOTHING, "sha256": TEXT}
UNTIL = {"run": LINE, "epoch": whole(1), "loss": number()}
BACKBONE = {
    "cardinality": whole(1, 4096), "base_width": whole(1, 4096), "stem": whole(1, 4096),
    "blocks": list_of(whole(1, 200), 4, 4), "normalisation": one_of(*NORMALISATIONS),
}  # fmt: skip

# Beside their types, which Recipe says itself, and the least that it takes.
RECIPE_MOST = {
    "image_size": 4096, "batch_size": 65_536, "head_epochs": MAX_EPOCHS, "cycles": 1000, "cycle_epochs": MAX_EPOCHS,
    "cycle_mult": 1000, "max_epochs": MAX_EPOCHS, "accumulate": 65_536, "lr_steps": 10**6,
}  # fmt: skip
RECIPE_KINDS = {
    "lr": number(0) | NOTHING,
    "lr_bounds": list_of(number(0), 2, 2),
    "middle_multiplier": number(0, 1000),
    "momentum": number(0, 0.9999),
    "smallest_view": number(0.01, 1),
    "crops": one_of("any", "three"),
    "stain_normalisation": one_of("none", "macenko", "reinhard"),
    "precision": one_of(*PRECISIONS),
    "class_weights": one_of("none", "balanced") | list_of(number(*WEIGHT_BOUNDS), 2, 2),
}

# What state.npz says beside its arrays.
STATE = {
    "epoch": whole(), "peak": number(0), "phase": TEXT, "history": list_of(OBJECT), "best": OBJECT,
    "seconds": number(0), "reached": FLAG,
}  # fmt: skip

# Losses of a sweep that diverged may be NaN or infinity.
LOSSES = list_of(Kind("a number", lambda value: isinstance(value, int | float) and not isinstance(value, bool)))
RANGE_TEST = {
    "phase": NAME, "metric": NAME, "rates": list_of(number(0)), "values": LOSSES, "smoothed": LOSSES,
    "divergence": number(0), "suggestion": number(0), "clear": FLAG,
}  # fmt: skip
PROBE = {"rates": list_of(number(0)), "values": LOSSES}

SHARE = number(0, 1)
METRICS = {"best_epoch": whole(1), "epochs": whole(1)}
METRICS_MORE = {
    "kind": one_of("node"), "node": one_of(*NODES), "seconds": number(0), "split": NAME, "chosen_on": NAME,
    "confusion_matrix": list_of(list_of(whole(), 2, 2), 2, 2), "until": OBJECT, "reached": FLAG,
    "stains": object_of(OBJECT),
}  # fmt: skip
TALLY = {"method": NAME, "left": object_of(whole()), "of": object_of(whole())}
SCORES = {
    "n": whole(1), "accuracy": SHARE, "accuracy_ci95": list_of(SHARE, 2, 2), "balanced_accuracy": SHARE,
    "balanced_accuracy_ci95": list_of(SHARE, 2, 2),
}  # fmt: skip
PART = SHARE | NOTHING
# Files from before groups were counted lack these.
SCORES_MORE = {
    "groups": whole(1), "effective_n": number(0.99), "sensitivity": object_of(PART), "specificity": object_of(PART),
    "f1": object_of(PART), "auroc": PART, "kappa": number(-1, 1) | NOTHING, "log_loss": number(0) | NOTHING,
    "brier": number(0, 2) | NOTHING, "calibration_error": PART, "classwise_calibration_error": PART,
    "reliability": list_of(OBJECT, 0, 100) | NOTHING, "absent": list_of(NAME), "why": object_of(LINE),
}  # fmt: skip
BIN = {"low": SHARE, "high": SHARE, "n": whole(1), "confidence": SHARE, "accuracy": SHARE}
SYSTEM = {
    "kind": one_of("system", "node"), "config": NAME, "protocol": TEXT, "split": NAME, "split_notes": TEXTS,
    "members": TEXTS, "chosen_on": whole(), "nodes": object_of(OBJECT),
}  # fmt: skip
# Evaluations from before headlines were named lack most of these.
SYSTEM_MORE = {
    "member_configs": list_of(NAME), "stains": OBJECT, "node": one_of(*NODES), "headline": one_of("system", *NODES),
    "coverage": list_of(OBJECT), "errors": OBJECT, "uncalibrated": OBJECT | NOTHING, "unsure": OBJECT | NOTHING,
    "sets": object_of(OBJECT) | NOTHING, "views": whole(1), "split_digest": TEXT, "model_digest": TEXT | NOTHING,
    "warnings": OBJECT | NOTHING, "likeness": OBJECT | NOTHING,
    "looks": OBJECT,
}  # fmt: skip
COVERAGE = {"coverage": SHARE, "accuracy": SHARE, "n": whole(1)}
ERRORS = {"left_at": object_of(whole()), "paths": list_of(OBJECT)}


def _is_step(step) -> bool:
    return isinstance(step, list) and len(step) == 3 and step[0] in NODES and NAME.fits(step[1]) and SHARE.fits(step[2])


ERROR = {
    "filename": TEXT, "truth": NAME, "label": NAME, "left_at": one_of(*NODES), "confidence": SHARE,
    "path": list_of(Kind("a list of node, answer and confidence", _is_step), 1, len(NODES)),
}  # fmt: skip


def check_config(config: dict) -> Recipe:
    """Check what config.json says, and return its recipe."""
    check(config, CONFIG, CONFIG_MORE)
    check(config["split"], {"train": TEXTS}, within="split")
    if "split_origin" in config:
        check(config["split_origin"], {}, SPLIT_ORIGIN, within="split_origin")
    if "until" in config:
        check(config["until"], UNTIL, within="until")
    if "weights_origin" in config:
        check(config["weights_origin"], WEIGHTS, WEIGHTS_MORE, within="weights_origin")
    return read_recipe(config["recipe"])


def read_recipe(values: dict) -> Recipe:
    """Return the recipe that config.json holds; refuses one that asks for more than can be trained."""
    fields = {field.name: _kind(field) for field in dataclasses.fields(Recipe)}
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise FieldError(f"recipe.{plain(unknown[0], 60)} is not a field of a recipe")
    check(values, {}, fields, within="recipe")
    check_backbone(values.get("backbone", {}), "recipe.backbone")
    # A run from before there was a probe resumes without one.
    values = {"lr_probe": 0, **values}
    try:
        return Recipe(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})
    except ValueError as error:
        raise FieldError(f"recipe: {error}") from error


def check_backbone(backbone: dict, within: str) -> None:
    """Refuse arguments of a backbone that are none, or that ask for more than can be trained."""
    from bach_keras.network.head import weight_count

    check(backbone, {}, BACKBONE, within=within)
    unknown = sorted(set(backbone) - set(BACKBONE))
    if unknown:
        raise FieldError(f"{within}.{plain(unknown[0], 60)} is not a field of a backbone")
    if sum(backbone.get("blocks", ())) > MAX_BLOCKS:
        raise FieldError(f"{within}.blocks must be at most {MAX_BLOCKS} together")
    count = weight_count(**backbone)
    if count > MAX_WEIGHTS:
        raise FieldError(f"{within} asks for {count:,} weights, and at most {MAX_WEIGHTS:,} are taken")


def _kind(field) -> Kind:
    """Return what a field of a recipe may hold, by its type where nothing more is known of it."""
    if field.name in RECIPE_KINDS:
        return RECIPE_KINDS[field.name]
    kinds = {int: whole(0, RECIPE_MOST.get(field.name, 2**31)), float: number(), bool: FLAG, str: TEXT, dict: OBJECT}
    if isinstance(field.type, types.UnionType):
        inner = [kinds.get(kind, NOTHING) for kind in typing.get_args(field.type)]
        return inner[0] | inner[1]
    return kinds.get(field.type, Kind("a list of numbers", list_of(number()).fits))


def check_metrics(metrics: dict, node: str) -> dict:
    """Check what a finished run's metrics.json says, and return it."""
    check(metrics, METRICS, METRICS_MORE)
    if "accuracy" in metrics:
        check(metrics, {"split": NAME})
        check_scores(metrics)
    if metrics.get("node", node) != node:
        raise FieldError(f"node must be {node}, not {metrics['node']}")
    if metrics["best_epoch"] > metrics["epochs"]:
        raise FieldError(f"best_epoch must be at most epochs, {metrics['epochs']}, not {metrics['best_epoch']}")
    for name, tally in metrics.get("stains", {}).items():
        _check_tally(tally, f"stains.{plain(name, 60)}")
    if "until" in metrics:
        check(metrics, {"reached": FLAG})
        check(metrics["until"], UNTIL, within="until")
    return metrics


def check_scores(scores: dict, needed=frozenset(SCORES), within: str = "") -> None:
    """Check what is said of one classifier's answers; ``needed`` are the names that must be there."""
    known = SCORES | SCORES_MORE
    check(scores, {name: known[name] for name in known if name in needed}, known, within)
    if "groups" in scores:  # printed in one sentence with it
        check(scores, {"effective_n": known["effective_n"]}, within=within)
    for index, part in enumerate(scores.get("reliability") or ()):
        check(part, BIN, within=f"{within}.reliability[{index}]".lstrip("."))


def _check_tally(tally: dict, within: str) -> None:
    """Check what is said of the images that a stain normalisation left as they are."""
    check(tally, TALLY, within=within)
    if set(tally["left"]) != set(tally["of"]):
        raise FieldError(f"{within}.left counts other labels than {within}.of")


def check_system(metrics: dict) -> dict:
    """Check what an evaluation's metrics.json says, and return it."""
    check(metrics, SYSTEM, SYSTEM_MORE)
    alone = metrics["kind"] == "node"
    headline = metrics.get("headline", "system")
    if alone:
        check(metrics, {"node": one_of(headline)})
    if alone or headline == "system":
        size = 2 if alone else 4
        check(metrics, {"confusion_matrix": list_of(list_of(whole(), size, size), size, size)})
        check_scores(metrics)
    elif headline not in metrics["nodes"]:
        raise FieldError(f"nodes.{headline} is missing, and headline names it")
    if "stains" in metrics:
        _check_tally(metrics["stains"], "stains")
    for name, score in metrics["nodes"].items():
        # Older files say no more of a node than its accuracy.
        check_scores(score, {"n", "accuracy", "accuracy_ci95"}, within=f"nodes.{plain(name, 60)}")
    for index, point in enumerate(metrics.get("coverage", ())):
        check(point, COVERAGE, within=f"coverage[{index}]")
    if "errors" in metrics:
        check(metrics["errors"], ERRORS, within="errors")
        for index, error in enumerate(metrics["errors"]["paths"]):
            check(error, ERROR, within=f"errors.paths[{index}]")
    return metrics


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a history.csv, one an epoch; refuses one that lacks an epoch or a number."""
    if not path.is_file():
        raise FieldError("the file is missing")
    if path.stat().st_size > MAX_HISTORY:
        raise FieldError(f"it is larger than {MAX_HISTORY} bytes")
    try:
        with io.TextIOWrapper(open_file(path), newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (csv.Error, UnicodeDecodeError) as error:
        raise FieldError(f"it is not a table ({plain(str(error), 100)})") from error
    if not rows:
        raise FieldError("it has no epoch")
    for count, row in enumerate(rows, 1):
        if None in row or None in row.values():
            raise FieldError(f"line {count + 1} has more or fewer values than there are columns")
        if row.get("epoch") != str(count):
            raise FieldError(f"line {count + 1} is not of epoch {count}")
        for name, value in row.items():
            if name in ("loss", "accuracy", "learning_rate") or name.startswith("val_"):
                try:
                    float(value)
                except ValueError:
                    raise FieldError(f"{plain(name, 60)} of epoch {count} must be a number") from None
    missing = sorted({"loss", "accuracy"} - set(rows[0]))
    if missing:
        raise FieldError(f"it has no column {missing[0]}")
    return rows


def read_range_tests(path: Path) -> list[dict]:
    """Return the entries of a lr_range_test.json, one a phase; refuses one that cannot be drawn."""
    if path.stat().st_size > MAX_HISTORY:
        raise FieldError(f"it is larger than {MAX_HISTORY} bytes")
    try:
        entries = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise FieldError("it is not JSON") from None
    if not isinstance(entries, list):
        raise FieldError("it is not a list of phases")
    for number_of, entry in enumerate(entries, 1):
        check(entry, RANGE_TEST, within=f"phase {number_of}")
        if entry.get("probe") is not None:
            check(entry["probe"], PROBE, within=f"phase {number_of}.probe")
    return entries


def best_row(rows: list[dict[str, str]], metrics: dict) -> dict[str, str]:
    """Return the row of a run's best epoch."""
    if len(rows) < metrics["best_epoch"]:
        raise FieldError(f"it has no row of epoch {metrics['best_epoch']}, the best by metrics.json")
    return rows[metrics["best_epoch"] - 1]
