"""One page that shows a system: settings, curves, range tests, confusion matrix."""

import base64
import html
import io
from pathlib import Path

from bach_keras.evidence.metrics import in_words
from bach_keras.training.runs import open_run, read_history, read_metrics
from bach_keras.tree import NODES
from datasets.labels import CLASSES

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;margin:1rem 0}td,th{border:1px solid #bbb;padding:.3rem .6rem;text-align:right}"
    "th{background:#f3f0f6}img{max-width:100%}.note{background:#fff4d6;padding:.6rem 1rem}"
)


def write_report(path: Path, result: dict, runs: list) -> None:
    """Write the page as one HTML file without outside parts, whole or not at all.

    Args:
        path: e.g. ``runs/demo/report.html``.
        result: a system's ``metrics.json``.
        runs: the folders of its members' runs; may be empty.
    """
    title = "Breast histology by a tree of ResNeXt-50 classifiers"
    body = [
        f"<h1>{title}</h1>",
        "<p class=note>Research software, not a medical device.</p>",
        f"<p>Config {html.escape(result['config'])}, protocol {html.escape(result['protocol'])}, "
        f"split {html.escape(result['split'])}.</p>",
        f"<p><b>Four-class accuracy {in_words(result)}.</b></p>",
        chosen(result),
        *[f"<p class=note>{html.escape(note)}</p>" for note in result["split_notes"]],
        "<h2>Confusion matrix</h2>",
        image(confusion_figure(result["confusion_matrix"]), "Confusion matrix"),
        "<h2>Nodes</h2>",
        table(
            ["node", "accuracy", "95 % interval", "n"],
            [
                [
                    NODES[name].title,
                    f"{s['accuracy']:.3f}",
                    "{:.3f} to {:.3f}".format(*s["accuracy_ci95"]),
                    s["n"],
                ]
                for name, s in result["nodes"].items()
            ],
        ),
        *[_run_section(Path(run)) for run in runs],
    ]
    write_page(path, title, body)


def write_page(path: Path, title: str, body: list[str]) -> None:
    """Write parts of HTML as one page, whole or not at all."""
    title = html.escape(title)
    page = f'<!doctype html><html lang=en><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    partial = path.with_name(f".{path.name}.part")
    partial.write_text(page + "\n".join(body) + "</html>\n", encoding="utf-8")
    partial.replace(path)


def chosen(result) -> str:
    """Return what to say of images that also chose, as a part of a page."""
    if not result["chosen_on"]:
        return "<p>No member saw these images, nor did they choose an epoch, an init or a threshold.</p>"
    return f"<p class=note>{result['chosen_on']} of these images also chose a member's epoch or init.</p>"


def _run_section(folder: Path) -> str:
    run = open_run(folder)
    config, metrics, history = run.config, read_metrics(run), read_history(run)
    settings = {name: config[name] for name in ("node", "config", "protocol", "init")} | config["recipe"]
    parts = [f"<h2>{NODES[config['node']].title}</h2>"]
    if "accuracy" in metrics:
        parts.append(
            f"<p>Validation accuracy by protocol {html.escape(config['protocol'])}: {in_words(metrics)}, "
            f"best epoch {metrics['best_epoch']}.</p>"
        )
    if note := config.get("split_origin", {}).get("note"):
        parts.append(f"<p class=note>{html.escape(note)}</p>")
    parts.append(image(_curves_figure(history), "Training curves"))
    for plot in sorted(folder.glob("lr_range_test*.png")):
        parts.append(_embedded(plot.read_bytes(), f"Learning rate range test ({plot.stem})"))
    rows = [[html.escape(name), html.escape(str(value))] for name, value in settings.items()]
    parts.append(f"<details><summary>Settings</summary>{table(['setting', 'value'], rows)}</details>")
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
    """Return a figure as a part of a page, embedded as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return _embedded(buffer.getvalue(), alt)


def _embedded(png: bytes, alt: str) -> str:
    return f'<p><img alt="{html.escape(alt)}" src="data:image/png;base64,{base64.b64encode(png).decode()}"></p>'


def table(heads, rows) -> str:
    """Return a table; its cells are HTML already."""
    head = "".join(f"<th>{head}" for head in heads)
    return f"<table><tr>{head}</tr>" + "".join(
        "<tr>" + "".join(f"<td>{cell}" for cell in row) + "</tr>" for row in rows
    ) + "</table>"  # fmt: skip
