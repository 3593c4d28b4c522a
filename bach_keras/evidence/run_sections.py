"""The parts of a report on the runs that made a system: curves, range tests, settings, seeds, versions."""

from bach_keras.evidence import figures, stains
from bach_keras.evidence.metrics import both_in_words
from bach_keras.evidence.page import details, heading, paragraph, setting, table
from bach_keras.evidence.page import figures as side_by_side
from bach_keras.run_folder import Run
from bach_keras.tree import NODES

TITLES = {
    "init": "start",
    "weights_origin": "public weights it comes from",
    "lr": "peak learning rate, none for the range test's",
}


def runs(opened: list[Run]) -> list[str]:
    """Return every run under a heading of its own, then the versions and seeds of all."""
    if not opened:
        return []
    several = len({run.node for run in opened}) < len(opened)
    parts = [part for run in opened for part in _run(run, several)]
    return [*parts, heading(3, "Seeds and versions"), _versions(opened)]


def _run(run: Run, several: bool) -> list[str]:
    config, metrics = run.settings, run.metrics()
    title = NODES[run.node].title
    parts = [heading(3, f"{title}, {run.folder.name}" if several else title)]
    if "accuracy" in metrics:
        accuracy = f"Validation accuracy by protocol {config['protocol']}: {both_in_words(metrics)}"
        parts.append(paragraph(f"{accuracy}, best epoch {metrics['best_epoch']} of {metrics['epochs']}."))
    else:
        words = f"No image validated this run; it kept epoch {metrics['best_epoch']} of {metrics['epochs']}."
        parts.append(paragraph(words))
    for name, counted in metrics.get("stains", {}).items():
        parts.append(paragraph(f"Stain normalisation of the {name} images: {stains.in_words(counted)}."))
    if note := config.get("split_origin", {}).get("note"):
        parts.append(paragraph(note, "note"))
    pictures = figures.curves(run.history(), metrics["best_epoch"])
    pictures += [figures.range_test(entry) for entry in run.range_tests()]
    named = [name for name in ("node", "config", "protocol", "init", "head", "weights_origin") if name in config]
    settings = {name: config[name] for name in named} | config["recipe"]
    lines = [[TITLES.get(name, name.replace("_", " ")), setting(value)] for name, value in settings.items()]
    return [
        *parts,
        side_by_side(pictures),
        details(f"Settings of {title}", table(["setting", "value"], lines, styles={1: "long"})),
    ]


def _versions(opened: list[Run]) -> str:
    seeds = {"seed": lambda run: run.settings["recipe"].get("seed", run.recipe.seed)}
    seeds["seed of the split"] = lambda run: run.settings.get("split_origin", {}).get("seed", "not recorded")
    names = list(dict.fromkeys(name for run in opened for name in run.settings.get("versions", {})))
    lines = [[run.folder.name, *[setting(seed(run)) for seed in seeds.values()]] for run in opened]
    for line, run in zip(lines, opened, strict=True):
        line.extend(run.settings.get("versions", {}).get(name, "not recorded") for name in names)
    return table(["run", *seeds, *names], lines)
