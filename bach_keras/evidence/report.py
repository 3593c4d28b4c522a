"""The page of an evaluation: the scores, then each run's settings, curves and range tests."""

import base64
import io
from pathlib import Path

from bach_keras.evidence import stains
from bach_keras.evidence.metrics import behind, in_words
from bach_keras.run_folder import Run
from bach_keras.tree import NODES
from datasets.escape import for_html
from datasets.labels import CLASSES
from datasets.whole import whole

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;margin:1rem 0}td,th{border:1px solid #bbb;padding:.3rem .6rem;text-align:right}"
    "th{background:#f3f0f6}img{max-width:100%}.note{background:#fff4d6;padding:.6rem 1rem}"
    ".loud{background:#b00020;color:#fff;padding:.8rem 1rem;font-weight:bold;font-size:1.3rem}"
)


def write_report(path: Path, result: dict, runs: list) -> None:
    """Write one HTML file without outside parts: a system's ``metrics.json``, and the folders of its members' runs."""
    title = "Breast histology by a tree of ResNeXt-50 classifiers"
    runs = [Run.open(run) for run in runs]
    learned_from = {*result.get("member_configs", ()), *(run.settings["config"] for run in runs)}
    body = [
        synthetic(result["config"], learned_from),
        heading(1, title),
        paragraph("Research software, not a medical device.", "note"),
        paragraph(f"Config {result['config']}, protocol {result['protocol']}, split {result['split']}."),
        f"<p><b>{for_html(f'Four-class accuracy {in_words(result)}.')}</b></p>",
        chosen(result),
        *[paragraph(note, "note") for note in result["split_notes"]],
        *([paragraph(f"Stain normalisation: {stains.in_words(result['stains'])}.")] if "stains" in result else []),
        heading(2, "Confusion matrix"),
        image(confusion_figure(result["confusion_matrix"]), "Confusion matrix"),
        heading(2, "Nodes"),
        _nodes(result["nodes"]),
        *[_run_section(run) for run in runs],
    ]
    write_page(path, title, body)


def _nodes(scores: dict) -> str:
    rows = [
        [
            NODES[name].title,
            f"{score['accuracy']:.3f}",
            "{:.3f} to {:.3f}".format(*score["accuracy_ci95"]),
            behind(score),
        ]
        for name, score in scores.items()
    ]
    return table(["node", "accuracy", "95 % interval", "judged by"], rows)


def write_page(path: Path, title: str, body: list[str]) -> None:
    """Write parts of HTML as one page."""
    page = f'<!doctype html><html lang=en><meta charset="utf-8"><title>{for_html(title)}</title><style>{_STYLE}</style>'
    with whole(path) as partial:
        partial.write_text(page + "\n".join(body) + "</html>\n", encoding="utf-8")


def synthetic(config: str, learned_from) -> str:
    """Return a loud paragraph where members learned from phantoms or phantoms judge them, else ""."""
    if "phantom" in learned_from:
        source = "this system learned from synthetic phantom images. Its answers, and these numbers,"
    elif config == "phantom":
        source = "the images that judge here are phantoms. These numbers"
    else:
        return ""
    return paragraph(f"SYNTHETIC: {source} mean NOTHING about tissue.", "loud")


def chosen(result) -> str:
    """Return a paragraph on the images that judge and also chose something of the system."""
    if not result["chosen_on"]:
        return paragraph("No member saw these images, nor did they choose an epoch, an init or a threshold.")
    return paragraph(f"{result['chosen_on']} of these images also chose a member's epoch or init.", "note")


def _run_section(run: Run) -> str:
    config, metrics, history = run.settings, run.metrics(), run.history()
    settings = {name: config[name] for name in ("node", "config", "protocol", "init")} | config["recipe"]
    parts = [heading(2, NODES[config["node"]].title)]
    if "accuracy" in metrics:
        accuracy = f"Validation accuracy by protocol {config['protocol']}: {in_words(metrics)}"
        parts.append(paragraph(f"{accuracy}, best epoch {metrics['best_epoch']}."))
    for name, counted in metrics.get("stains", {}).items():
        parts.append(paragraph(f"Stain normalisation of the {name} images: {stains.in_words(counted)}."))
    if note := config.get("split_origin", {}).get("note"):
        parts.append(paragraph(note, "note"))
    parts.append(image(_curves_figure(history), "Training curves"))
    for plot in run.range_test_plots:
        parts.append(_embedded(plot.read_bytes(), f"Learning rate range test ({plot.stem})"))
    rows = table(["setting", "value"], settings.items())
    parts.append(f"<details><summary>Settings</summary>{rows}</details>")
    return "\n".join(parts)


def _curves_figure(history):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        epochs = [int(row["epoch"]) for row in history]
        for key, label in ((name, "training"), (f"val_{name}", "validation")):
            if key in history[0]:
                axes.plot(epochs, [float(row[key]) for row in history], marker="o", label=label)
        axes.set(xlabel="epoch", ylabel=name)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend()
    return figure


def confusion_figure(matrix):
    """Draw a four-class confusion matrix, a row for each true class."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 4.4), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(matrix, cmap="Purples")
    top = max(max(row) for row in matrix)
    for i, row in enumerate(matrix):
        for j, count in enumerate(row):
            axes.text(j, i, count, ha="center", va="center", color="white" if count > top / 2 else "black")
    axes.set(xticks=range(4), yticks=range(4), xlabel="answered", ylabel="true")
    axes.set_xticklabels(CLASSES)
    axes.set_yticklabels(CLASSES)
    return figure


def image(figure, alt: str) -> str:
    """Return a figure as a paragraph, embedded as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return _embedded(buffer.getvalue(), alt)


def _embedded(png: bytes, alt: str) -> str:
    return f'<p><img alt="{for_html(alt)}" src="data:image/png;base64,{base64.b64encode(png).decode()}"></p>'


def heading(level: int, text) -> str:
    """Return a heading; what is given is text, not HTML."""
    return f"<h{level}>{for_html(text)}</h{level}>"


def paragraph(text, style: str = "") -> str:
    """Return a paragraph; what is given is text, not HTML."""
    return f"<p{f' class={style}' if style else ''}>{for_html(text)}</p>"


def table(heads, rows) -> str:
    """Return a table; its cells are text, not HTML."""
    lines = [
        "".join(f"<{tag}>{for_html(cell)}" for cell in cells)
        for tag, cells in (("th", heads), *(("td", row) for row in rows))
    ]
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"
