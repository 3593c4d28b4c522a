"""An evaluation as metrics.json and predictions.csv hold it, of a system that is right often but not always.

Its answers are drawn, and its figures are computed from them: nothing in it is of a real network.
"""

import csv
import io
import json
import math
from collections import Counter

import numpy as np
from PIL import Image

from bach_keras.evidence import stability_card
from bach_keras.evidence.likeness import likeness
from bach_keras.evidence.metrics import scores
from bach_keras.evidence.predictions import Predictions
from bach_keras.evidence.stability_card import CHANGES
from bach_keras.tree import NODES, ROOT
from datasets.labels import CLASSES

# Measure -> the scale of its gamma distribution.
MEASURES = {"blur": 0.05, "tissue": 0.08, "stain": 0.2, "features": 1.5}

# Of the patients, as few sets have many images of one.
SIZES = (36, 18, 14, 11, 9, 6, 5, 5, 4, 3, 3, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1)


def rows_of(seed: int = 3, sharpness: float = 2.2) -> list[dict]:
    """Return the rows of 132 images of 24 patients; each patient has images of one class."""
    rng, rows = np.random.default_rng(seed), []
    for patient, size in enumerate(SIZES):
        truth = int(rng.choice(4, p=(0.2, 0.3, 0.25, 0.25)))
        for number in range(size):
            row = {"filename": f"patient{patient:02d}_{number:02d}.tif", "group": f"patient {patient:02d}"}
            pairs = {}
            for node in NODES.values():
                target = node.targets.get(CLASSES[truth])
                logit = 0.0 if target is None else (target * 2 - 1) * sharpness
                logit += rng.normal(0, 2.2)
                pairs[node.name] = [1 / (1 + math.exp(logit)), 1 / (1 + math.exp(-logit))]
            hot = {name: _sharper(pair) for name, pair in pairs.items()}
            four = _product(pairs)
            row |= {"digest": f"{patient:02x}{number:02x}" * 16, "truth": CLASSES[truth]}
            row |= {"label": CLASSES[int(np.argmax(four))], **dict(zip(CLASSES, four, strict=True)), **pairs}
            row |= {"uncalibrated": hot, "unsure": max(four) < 0.6, "set": None, "spread": float(rng.beta(1, 12))}
            rows.append(row)
    return rows


def _sharper(pair) -> list[float]:
    logit = 2 * math.log(pair[1] / pair[0])
    return [1 / (1 + math.exp(logit)), 1 / (1 + math.exp(-logit))]


def _product(pairs) -> list[float]:
    (non, carcinoma), norbe, invis = pairs["carci"], pairs["norbe"], pairs["invis"]
    return [non * norbe[0], non * norbe[1], carcinoma * invis[0], carcinoma * invis[1]]


def result_of(rows: list[dict], **changes) -> dict:
    """Return what metrics.json holds of a calibrated system that gave these rows."""
    four = np.array([[row[name] for name in CLASSES] for row in rows])
    truth = [CLASSES.index(row["truth"]) for row in rows]
    groups = [row["group"] for row in rows]
    whole = scores(truth, four, CLASSES, groups)
    hot = np.array([_product(row["uncalibrated"]) for row in rows])
    nodes, before = {}, {"system": scores(truth, hot, CLASSES, groups)}
    for node in NODES.values():
        own = [row for row in rows if row["truth"] in node.targets]
        told = ([node.targets[row["truth"]] for row in own], [row["group"] for row in own])
        nodes[node.name] = scores(told[0], [row[node.name] for row in own], node.classes, told[1])
        sharp = [row["uncalibrated"][node.name] for row in own]
        before[node.name] = scores(told[0], sharp, node.classes, told[1])
    return {
        "kind": "system", "headline": "system", **whole, "nodes": nodes, "coverage": _coverage(rows, four),
        "errors": _errors(rows), "uncalibrated": before, "unsure": _unsure(rows),
        "sets": {
            "0.8": {"covered": 109 / 132, "n": 132, "covered_ci95": [0.672, 0.921], "mean_size": 1.41},
            "0.9": {"covered": 121 / 132, "n": 132, "covered_ci95": [0.779, 0.981], "mean_size": 1.87},
        },
        "views": 8, "split_digest": "3f" * 32, "model_digest": "9a" * 32, "config": "bach", "protocol": "patient",
        "split": "validation", "split_notes": [], "members": ["runs/bach-carci", "runs/bach-norbe", "runs/bach-invis"],
        "member_configs": ["bach"], "chosen_on": 132, **changes,
    }  # fmt: skip


def stability_of(rows: list[dict]) -> dict:
    """Return a stability card in which every change turns a few answers of the root round."""
    rng, answers = np.random.default_rng(4), {}
    for number, change in enumerate(CHANGES):
        answers[change] = [_turned(row) if number and rng.uniform() < number / 200 else row for row in rows]
    figures = stability_card.figures({change: Predictions(own, None, "", "") for change, own in answers.items()})
    return {**figures, "of": 268, "seed": 0, "image_size": 288}


def likeness_of(rows: list[dict]) -> dict:
    """Return how these images differ from those of training: in their stain, and a little in their blur."""
    rng = np.random.default_rng(6)
    known = {name: np.sort(rng.gamma(9, scale, 101)).tolist() for name, scale in MEASURES.items()}
    measured = [{name: float(rng.gamma(9, scale)) for name, scale in MEASURES.items()} for _ in rows]
    measured = [{**each, "stain": 3 * each["stain"], "blur": 1.1 * each["blur"]} for each in measured]
    training = {"images": 268, "patients": 29, "false_alarms": 0.049, "percentiles": known}
    bounds = {name: (0.0, values[99]) for name, values in known.items()}
    return likeness(
        [{"group": row["group"], "measured": each} for row, each in zip(rows, measured, strict=True)], bounds, training
    )


def _turned(row: dict) -> dict:
    pairs = {node: row[node] for node in NODES} | {ROOT.name: row[ROOT.name][::-1]}
    four = _product(pairs)
    return {**row, **pairs, **dict(zip(CLASSES, four, strict=True)), "label": CLASSES[int(np.argmax(four))]}


def _coverage(rows, four) -> list[dict]:
    order = np.argsort(-four.max(axis=1), kind="stable")
    right = np.array([row["truth"] == row["label"] for row in rows])[order]
    counts = [max(1, round(share * len(rows))) for share in np.arange(1, 21) / 20]
    return [{"coverage": n / len(rows), "accuracy": float(right[:n].mean()), "n": n} for n in counts]


def _unsure(rows) -> dict:
    wrong = [row for row in rows if row["truth"] != row["label"]]
    sure = [row for row in rows if not row["unsure"]]
    return {
        "share": 1 - len(sure) / len(rows), "errors": len(wrong), "errors_unsure": sum(row["unsure"] for row in wrong),
        "accuracy_of_sure": sum(row["truth"] == row["label"] for row in sure) / len(sure),
    }  # fmt: skip


def _errors(rows) -> dict:
    paths = []
    for row in rows:
        if row["truth"] == row["label"]:
            continue
        branch = "invis" if row["label"] in ("insitu", "invasive") else "norbe"
        path = [_step("carci", row), _step(branch, row)]
        left = "carci" if row["truth"] not in NODES[branch].targets else branch
        sure = path[0][2] if left == "carci" else path[1][2]
        named = {name: row[name] for name in ("filename", "truth", "label")}
        paths.append({**named, "left_at": left, "confidence": sure, "path": path})
    return {"left_at": dict(Counter(path["left_at"] for path in paths)), "paths": paths}


def _step(node, row) -> list:
    pair = row[node]
    return [node, NODES[node].classes[int(np.argmax(pair))], max(pair)]


def thumbnails(result: dict) -> dict[str, bytes]:
    """Return a small picture for each wrong image: blots on pink, drawn."""
    pictures = {}
    for path in result["errors"]["paths"]:
        rng = np.random.default_rng(len(pictures))
        coarse = rng.normal(0, 1, (12, 12))
        field = np.asarray(Image.fromarray(coarse.astype(np.float32)).resize((160, 160), Image.Resampling.BICUBIC))
        mix = (1 / (1 + np.exp(-3 * field)))[..., None]
        pixels = (
            mix * np.array([238, 190, 214]) + (1 - mix) * np.array([104, 66, 140]) + rng.normal(0, 8, (160, 160, 1))
        )
        file = io.BytesIO()
        Image.fromarray(np.uint8(np.clip(pixels, 0, 255))).save(file, "JPEG", quality=75)
        pictures[path["filename"]] = file.getvalue()
    return pictures


def write_run(folder, node: str, **changes):
    """Write a run folder of 48 epochs with two range tests, and return it."""
    folder.mkdir(parents=True)
    config = {
        "node": node, "config": "bach", "protocol": "patient", "init": "imagenet", "split": {"train": ["a.tif"]},
        "trained_on": ["a.tif"], "chosen_on": ["b.tif"],
        "split_origin": {"seed": 0, "patients_sha256": None, "note": ""},
        "recipe": {"image_size": 288, "batch_size": 10, "lr": None, "middle_multiplier": 1 / 3, "seed": 7},
        "versions": {"python": "3.11.15", "tensorflow": "2.21.0", "keras": "3.15.1", "numpy": "2.2.6"}, **changes,
    }  # fmt: skip
    metrics = {"best_epoch": 31, "epochs": 48, "n": 132, "accuracy": 0.8712, "accuracy_ci95": [0.62, 0.96]}
    metrics |= {"balanced_accuracy": 0.859, "balanced_accuracy_ci95": [0.6, 0.95], "split": "validation"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "metrics.json").write_text(json.dumps(metrics | {"groups": 24, "effective_n": 8.1}))
    rng = np.random.default_rng(5)
    with (folder / "history.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["epoch", "phase", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"])
        for epoch in range(1, 49):
            loss, wave = 0.72 * math.exp(-epoch / 11) + 0.006, 0.04 * math.exp(-(epoch % 12) / 6)
            validated = 0.42 + 0.3 * math.exp(-epoch / 9) + rng.normal(0, 0.02) + wave
            accuracies = (1 - 0.4 * math.exp(-epoch / 8), 0.87 - 0.3 * math.exp(-epoch / 7) + rng.normal(0, 0.012))
            lines.writerow([epoch, "middle", loss, accuracies[0], validated, accuracies[1], 0.01])
    entries = [range_test("head", 0.08), range_test("middle+head", 0.02)]
    (folder / "lr_range_test.json").write_text(json.dumps(entries))
    return folder


def range_test(phase: str, turn: float) -> dict:
    """Return an entry of lr_range_test.json whose loss turns at a rate."""
    rng, rates = np.random.default_rng(1), np.geomspace(1e-5, 10 * turn, 60)
    fall = 0.75 - 0.25 / (1 + (turn / 8 / rates) ** 1.4)
    smooth = np.minimum(fall + np.maximum(0, np.log(rates / turn)) ** 2 * 0.6, 4)
    probe = slice(None, None, 4)
    return {
        "phase": phase, "metric": "loss", "rates": rates.tolist(), "smoothed": smooth.tolist(),
        "values": (smooth + rng.normal(0, 0.12, 60)).tolist(), "clear": phase != "head", "stopped": "diverged",
        "probe": {"rates": rates[probe].tolist(), "values": (smooth[probe] + 0.02).tolist()},
        "divergence": turn, "suggestion": turn / 10,
    }  # fmt: skip


def write(folder, config: str = "bach", **changes):
    """Write the report of a realistic evaluation, and return its path, its result and its rows."""
    from bach_keras.evidence.report import write_report

    rows = rows_of()
    result = result_of(rows, config=config, member_configs=[config], stability=stability_of(rows), **changes)
    result["likeness"] = likeness_of(rows)
    runs = [write_run(folder / f"{config}-{node}", node, config=config) for node in NODES]
    write_report(folder / "report.html", result, rows, runs, thumbnails(result))
    return folder / "report.html", result, rows
