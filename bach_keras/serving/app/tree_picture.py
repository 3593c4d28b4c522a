"""The tree as a picture for one image: how sure each node is, with the path to the answer lit."""

from collections.abc import Iterator

from bach_keras.tree import NODES, ROOT, SPECIALISTS, Node
from datasets.escape import for_html

_WIDTH, _BOX, _TALL, _STEP = 360, 82, 40, 104


def path_to(label: str, nodes: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return the path through the tree to a label: each node on it, with the class that leads on."""
    if len(nodes) == 1:
        return [(nodes[0], label)]
    place, specialist = next((at, node) for at, node in enumerate(SPECIALISTS) if label in node.classes)
    return [(ROOT.name, ROOT.classes[place]), (specialist.name, label)]


def in_words(row: dict) -> str:
    """Return the path to the answer in words: ``Carci says carcinoma (0.930), then InvIs says invasive (0.811).``

    Where the label is not on the side that carci finds likelier, that is said.
    """
    lit = path_to(row["label"], nodes_of(row))
    (first, group), (last, label) = lit[0], lit[-1]
    own = max(row["nodes"][first], key=row["nodes"][first].get)
    if own == group:
        return ", then ".join(f"{NODES[node].title} says {_step(row, node, name)}" for node, name in lit) + "."
    return (
        f"{NODES[first].title} says {_step(row, first, own)}, but of all classes the likeliest is {label}: "
        f"{_step(row, first, group)}, then {NODES[last].title} says {_step(row, last, label)}."
    )


def _step(row, node, name) -> str:
    return f"{name} ({row['nodes'][node][name]:.3f})"


def svg(row: dict) -> str:
    """Draw the tree for a row of ``predict``: a line is as wide as its node is sure of the class that it leads to."""
    nodes = nodes_of(row)
    lit = path_to(row["label"], nodes)
    parts = []
    for node, x, level, below in _places(nodes):
        parts.append(_box(x, level, _styles("node", node.name in dict(lit)), node.title))
        for name, x_below in below.items():
            parts.append(_branch(row, (node.name, name), (x, x_below, level), (node.name, name) in lit))
    height = _STEP * (2 if len(nodes) > 1 else 1) + _TALL + 4
    return (
        f'<svg class="tree" viewBox="0 -2 {_WIDTH} {height}" role="img" aria-labelledby="tree-title tree-words">'
        f'<title id="tree-title">Path through the tree</title><desc id="tree-words">{for_html(in_words(row))}</desc>'
        f"{''.join(parts)}</svg>"
    )


def nodes_of(row: dict) -> tuple[str, ...]:
    """Return the nodes that answered."""
    return tuple(name for name in NODES if row["nodes"][name] is not None)


def _places(nodes) -> Iterator[tuple[Node, int, int, dict[str, int]]]:
    """Yield each node, the middle of its box, its level, and the middle of what is below each of its classes."""
    root = NODES[nodes[0]]
    yield root, 180, 0, dict(zip(root.classes, (90, 270), strict=True))
    for x, node in zip((90, 270), map(NODES.get, nodes[1:]), strict=False):
        yield node, x, 1, dict(zip(node.classes, (x - 45, x + 45), strict=True))


def _branch(row, step, place, is_lit) -> str:
    """Return the line from a node to what is below one of its classes, and the box of a class that is an answer."""
    (node, name), (x, x_below, level) = step, place
    share = row["nodes"][node][name]
    top = _STEP * level + _TALL
    line = (
        f'<line class="{_styles("edge", is_lit)}" x1="{x}" y1="{top}" x2="{x_below}" y2="{top + _STEP - _TALL}" '
        f'stroke-width="{1.5 + 6 * share:.1f}"/>'
    )
    is_answer = name in row["probabilities"]
    said = [f"{share:.3f}"] if is_answer else [name, f"{share:.3f}"]
    beside = x_below + (14 if x_below > x else -14) * len(said)  # the line slants towards the node
    words = "".join(_text(beside, top + 42 - 15 * at, each, "share", is_lit) for at, each in enumerate(reversed(said)))
    box = (
        _box(x_below, level + 1, _styles("leaf", is_lit), name, f"{row['probabilities'][name]:.3f}")
        if is_answer
        else ""
    )
    return line + words + box


def _styles(style: str, is_lit: bool) -> str:
    return f"{style} lit" if is_lit else style


def _box(x, level, style, *words) -> str:
    top = _STEP * level
    rect = f'<rect x="{x - _BOX / 2:g}" y="{top}" width="{_BOX}" height="{_TALL}" rx="8"/>'
    first = top + _TALL / 2 + 4.5 - 8 * (len(words) - 1)
    lines = "".join(_text(x, first + 16 * number, each) for number, each in enumerate(words))
    return f'<g class="{style}">{rect}{lines}</g>'


def _text(x, y, words, style: str = "", is_lit: bool = False) -> str:
    look = f' class="{_styles(style, is_lit)}"' if style else ""
    return f'<text{look} x="{x}" y="{y:g}" text-anchor="middle">{for_html(words)}</text>'
