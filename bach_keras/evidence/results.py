"""The page of a reproduction: the paper's Table 1 next to ours, confusion matrices, and every run."""

from pathlib import Path

from bach_keras.evidence.figures import confusion
from bach_keras.evidence.metrics import in_words
from bach_keras.evidence.notes import DEVICE, chosen, synthetic
from bach_keras.evidence.page import heading, matrices, paragraph, section, table, write_page
from bach_keras.evidence.paper import FIGURE_3, PUBLISHED
from bach_keras.evidence.seeds import HEADS, mean_in_words, seed_rows
from bach_keras.tree import NODES
from bach_keras.wording import counted
from datasets.labels import CLASSES

COLUMNS = (*NODES, "whole")


def write_results(path: Path, results: dict) -> None:
    """Write one HTML file without outside parts from what ``results.json`` of a reproduction holds."""
    config = results["config"]
    title = f"Table 1 of Koné & Boulmane (2018), trained again on {config}"
    body = [
        synthetic(config, {run["config"] for run in results["runs"]}),
        heading(1, title),
        paragraph(DEVICE, "note"),
        paragraph(FIGURE_3.replace("the confusion matrices below", "our confusion matrices")),
    ]
    protocols = list(dict.fromkeys(run["protocol"] for run in results["runs"] if run["protocol"] != "all"))
    for number, protocol in enumerate(protocols, 1):
        parts = _protocol([tree for tree in results["trees"] if tree["protocol"] == protocol])
        if parts:
            body.append(section(f"protocol-{number}", f"Protocol {protocol}", parts))
    if len(protocols) > 1:
        body.append(
            paragraph(
                "The protocols judge by different images, so their numbers do not compare as equals. Under protocol "
                "paper, images of one patient may both train and judge, so its scores are too high."
            )
        )
    if rows := seed_rows(results["runs"]):
        body.append(section("seeds", "Seeds", [table(HEADS, rows)]))
    body.append(section("runs", "Runs", [_runs(results["runs"])]))
    write_page(path, title, body)


def _protocol(trees) -> list[str]:
    if not trees:
        return []
    rows = {}
    for tree in trees:
        rows.setdefault(tree["row"], []).append(tree)
    lines = []
    for name, several in rows.items():
        scores = [tree["score"] for tree in several]
        if None in scores:
            unscored = "trained on every labelled image, so none is left to judge it"
            lines.append([f"{name}, ours", *[unscored] * len(COLUMNS)])
            continue
        lines.append([f"{name}, ours", *[_cell([_part(score, column) for score in scores]) for column in COLUMNS]])
        if name in PUBLISHED:
            given = PUBLISHED[name]
            lines.append([f"{name}, paper", *[f"{given[column]:g}" if column in given else "" for column in COLUMNS]])
    parts, pictures = [table(["", *COLUMNS], lines)], []
    for name, several in rows.items():
        for tree in several:
            if score := tree["score"]:
                title = f"{name}, seed {tree['seed']}"
                parts += [paragraph(f"{title}, {score['split']} images: {in_words(score)}"), chosen(score)]
                pictures.append(confusion(score["confusion_matrix"], CLASSES, title))
    parts.append(matrices(pictures) if pictures else "")
    notes = dict.fromkeys(note for tree in trees if tree["score"] for note in tree["score"]["split_notes"])
    return parts + [paragraph(note, "note") for note in notes]


def _part(score, column):
    return score if column == "whole" else score["nodes"].get(column)


def _cell(scores) -> str:
    """Return one accuracy with its interval, or the mean and the spread over seeds."""
    if None in scores:
        return ""
    if len(scores) == 1:
        return in_words(scores[0])
    return f"mean {mean_in_words(scores)}; the first {in_words(scores[0])}"


def _runs(runs) -> str:
    rows = [
        [
            Path(run["run"]).parent.name + "/" + Path(run["run"]).name,
            run["node"],
            run["config"],
            run["protocol"],
            Path(run["init"]).name,
            f"{run['best_epoch']} of {run['epochs']}",
            in_words(run) if "accuracy" in run else "none kept" + _until(run),
            f"{run['seconds'] / 60:.1f}",
        ]
        for run in runs
    ]
    heads = ["run", "node", "config", "protocol", "start", "epoch kept", "validation accuracy", "minutes"]
    minutes = sum(run["seconds"] for run in runs) / 60
    return table(heads, rows) + paragraph(f"{counted(len(runs), 'run')}, {minutes:.1f} minutes of training.")


def _until(run) -> str:
    if "until" not in run:
        return ""
    return f"; training loss {run['until']['loss']:.3f} " + ("reached" if run["reached"] else "not reached")
