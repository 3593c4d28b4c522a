"""The page docs/api.md, made from the docstrings: python -m docs.api FILE."""

import importlib
import inspect
import re
import sys
import tempfile
import textwrap
from pathlib import Path

from datasets.whole import whole

# Heading -> what it says first, and the names under it.
PUBLIC = {
    "A model that answers": (
        "From the project's folder, or with it first in `PYTHONPATH`.",
        ["bach_keras.load", "bach_keras.serving.model.Model", "bach_keras.serving.model.Answers"],
    ),
    "Callbacks": (
        "For any Keras project: [callbacks.md](callbacks.md) has complete scripts, and says how to take them along.",
        [
            "callbacks.lr_range_test.lr_range_test",
            "callbacks.lr_range_test.LRRangeTest",
            "callbacks.sgdr.SGDR",
            "callbacks.sgdr.cycle_ends",
            "callbacks.layer_groups.with_layer_groups",
            "callbacks.layer_groups.freeze",
            "callbacks.fused_sgd.FusedSGD",
            "callbacks.tensorboard.TensorBoard",
        ],
    ),
    "The data set": (
        "[elsewhere.md](elsewhere.md) says how to read prepared images in another project.",
        ["datasets.bach_bisque.bach_bisque_dataset_builder.Builder"],
    ),
}
BUILDER = "datasets.bach_bisque.bach_bisque_dataset_builder.Builder"

_LONGEST = 100  # of a signature on one line
# Modules in which a name is not looked for, as it is exported elsewhere or is in this page.
_LEFT_OUT = {
    "keras.src.models.model.": "keras.",
    "keras.src.optimizers.optimizer.": "keras.optimizers.",
    r"(bach_keras|callbacks|collections)(\.[a-z_]\w*)*\.": "",
}
_SECTIONS = ("Args", "Attributes", "Returns", "Raises")


def page() -> str:
    """Return the whole page."""
    parts = ["# The API\n\nMade from the docstrings by `python -m docs.api docs/api.md`.\n"]
    for heading, (first, names) in PUBLIC.items():
        parts += [f"## {heading}\n\n{first}\n", *map(_entry, names)]
    return "\n".join(parts)


def found(name: str):
    """Return what a full name names."""
    module, _, own = name.rpartition(".")
    return getattr(importlib.import_module(module), own)


def _entry(name: str) -> str:
    thing = found(name)
    own = name.rpartition(".")[2]
    if name == BUILDER:  # TFDS calls it
        return "\n".join([f"### `{name}`", "", _text(inspect.getdoc(thing)), "", *_of_builder(thing)])
    lines = [f"### `{name}`", "", *_signature(own, thing), "", _text(inspect.getdoc(thing)), ""]
    if inspect.isclass(thing):
        for part, value in vars(thing).items():
            # Keras calls the hooks of a callback.
            if part.startswith(("_", "on_")) or not getattr(value, "__doc__", None):
                continue
            if isinstance(value, property):
                lines += [f"#### `{own}.{part}`", "", _text(inspect.getdoc(value)), ""]
            elif inspect.isfunction(value):
                lines += [f"#### `{own}.{part}`", "", *_signature(part, value), "", _text(inspect.getdoc(value)), ""]
    return "\n".join(lines)


def _signature(name: str, thing) -> list[str]:
    """Return how something is called, as a block of code."""
    signature = inspect.signature(thing)
    parameters = [each for key, each in signature.parameters.items() if key != "self"]
    line = f"{name}{signature.replace(parameters=parameters)}"
    if len(line) > _LONGEST:
        texts = [f"    {text}," for text in _parameters(parameters)]
        line = "\n".join([f"{name}(", *texts, f"){str(signature.replace(parameters=[]))[2:]}"])
    for module, short in _LEFT_OUT.items():
        line = re.sub(module, short, line)
    return ["```python", line, "```"]


def _parameters(parameters) -> list[str]:
    """Return each parameter as a signature writes it, with the star before those that must be named."""
    texts, is_named = [], False
    for each in parameters:
        if each.kind is each.KEYWORD_ONLY and not is_named:
            texts.append("*")
            is_named = True
        texts.append(str(each))
    return texts


def _text(docstring: str) -> str:
    """Return a docstring as Markdown: its sections as lists, its examples as code."""
    blocks = re.split(r"\n\n+", docstring.strip())
    return "\n\n".join(map(_block, blocks))


def _block(block: str) -> str:
    head, _, rest = block.partition("\n")
    if head.rstrip(":") in _SECTIONS and head.endswith(":"):
        body = textwrap.dedent(rest)
        if head in ("Returns:", "Raises:") and not re.match(r"\w+: ", body):
            return f"**{head[:-1]}:** {_prose(body)}"
        entries = re.split(r"\n(?=\S)", body)
        return "\n".join([f"**{head[:-1]}**", "", *(_listed(entry) for entry in entries)])
    if block.lstrip().startswith(">>>"):
        return f"```pycon\n{textwrap.dedent(block)}\n```"
    return block if block.startswith("    ") else _prose(block)


def _listed(entry: str) -> str:
    name, _, what = entry.partition(":")
    what = " ".join(what.split())
    return f"- `{name}`: {_prose(what)}"


def _prose(text: str) -> str:
    """Return text with single backticks, as Markdown has them."""
    return " ".join(text.split()).replace("``", "`")


def _of_builder(builder) -> list[str]:
    """Return the tables of a builder's configs and features."""
    lines = ["| config | images | licence |", "|---|---|---|"]
    lines += [f"| `{each.name}` | {each.description} | {each.licence or ''} |" for each in builder.BUILDER_CONFIGS]
    with tempfile.TemporaryDirectory() as empty:
        info = builder(config="phantom", data_dir=empty).info
        lines += ["", f"Version {info.version}.", "", "| feature | type | |", "|---|---|---|"]
        for name, feature in info.features.items():
            shape = f" {list(feature.shape)}" if feature.shape else ""
            lines.append(f"| `{name}` | {feature.tf_dtype.name}{shape} | {feature.doc.desc} |")
    return [*lines, ""]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Give the file to write: python -m docs.api docs/api.md")
    with whole(Path(sys.argv[1])) as unfinished:
        unfinished.write_text(page())
