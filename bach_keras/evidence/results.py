"""The page of a reproduction: the paper's Table 1 next to ours, confusion matrices, and every run."""

import statistics
from pathlib import Path

from bach_keras.evidence.metrics import in_words
from bach_keras.evidence.report import chosen, confusion_figure, heading, image, paragraph, synthetic, table, write_page
from bach_keras.evidence.seeds import HEADS, seed_rows
from bach_keras.tree import NODES
from bach_keras.wording import counted

# Koné & Boulmane (2018), Table 1; the whole system missed 1 of 100 images, and with BISQUE 4 of 108.
PUBLISHED = {
    "init": {"carci": 1.00, "norbe": 0.98, "invis": 1.00, "whole": 0.99},
    "init+ext": {"carci": 0.98, "norbe": 0.965, "whole": 0.963},
}
COLUMNS = (*NODES, "whole")


def write_results(path: Path, results: dict) -> None:
    """Write one HTML file without outside parts from what ``results.json`` of a reproduction holds."""
    config = results["config"]
    title = f"Table 1 of Koné & Boulmane (2018), trained again on {config}"
    body = [
        synthetic(config, {run["config"] for run in results["runs"]}),
        heading(1, title),
        paragraph("Research software, not a medical device.", "note"),
    ]
    protocols = list(dict.fromkeys(run["protocol"] for run in results["runs"] if run["protocol"] != "all"))
    for protocol in protocols:
        body += _protocol(protocol, [tree for tree in results["trees"] if tree["protocol"] == protocol])
    if len(protocols) > 1:
        body.append(
            paragraph(
                "The protocols judge by different images, so their numbers do not compare as equals. Under protocol "
                "paper, images of one patient may both train and judge, so its scores are too high."
            )
        )
    if rows := seed_rows(results["runs"]):
        body += [heading(2, "Seeds"), table(HEADS, rows)]
    body += [heading(2, "Runs"), _runs(results["runs"])]
    write_page(path, title, body)


def _protocol(protocol, trees) -> list[str]:
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
    parts = [heading(2, f"Protocol {protocol}"), table(["", *COLUMNS], lines)]
    for name, several in rows.items():
        if score := several[0]["score"]:
            judged = f"{name}, seed {several[0]['seed']}, {score['split']} images: {in_words(score)}"
            matrix = image(confusion_figure(score["confusion_matrix"]), name)
            parts += [paragraph(judged), chosen(score), matrix]
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
    accuracies = [score["accuracy"] for score in scores]
    mean, spread = statistics.mean(accuracies), statistics.stdev(accuracies)
    return f"mean {mean:.3f}, standard deviation {spread:.3f} over {len(scores)} seeds; the first {in_words(scores[0])}"


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
