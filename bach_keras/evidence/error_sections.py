"""The parts of a report on wrong answers: the path that each took through the tree, and its picture."""

from bach_keras.evidence.page import decimal, image, paragraph, table
from bach_keras.evidence.score_sections import title_of
from bach_keras.evidence.scoring import headline
from bach_keras.tree import NODES
from bach_keras.wording import counted
from datasets.escape import for_html

# metrics.json and predictions.csv hold all of them; a page with thousands would not open.
MOST_LINES, MOST_PICTURES = 200, 48


def wrong(result: dict) -> list[dict]:
    """Return the wrong answers, the most confident first."""
    paths = (result.get("errors") or {}).get("paths") or []
    return sorted(paths, key=lambda path: (-(path.get("confidence") or 0), path["filename"]))


def errors(result: dict, rows: list[dict]) -> list[str]:
    """Return at which node the tree left the right branch, and each wrong answer as a path."""
    if not result.get("errors"):
        why = (result.get("why") or {}).get("errors", "this evaluation does not record the paths.")
        return [paragraph(f"Not measured: {why}", "soft")]
    paths = wrong(result)
    if not paths:
        return [paragraph(f"None of the {headline(result)[1].get('n')} answers is wrong.")]
    left = result["errors"].get("left_at") or {}
    total, place = sum(left.values()) or 1, {node: number for number, node in enumerate(NODES)}
    order = sorted(left, key=lambda node: place.get(node, len(place)))
    counts = [[title_of(node), str(left[node]), f"{100 * left[node] / total:.0f} %"] for node in order]
    lines = [
        [
            path["filename"],
            path["truth"],
            path["label"],
            title_of(path["left_at"]),
            decimal(path.get("confidence")),
            in_words(path),
        ]
        for path in paths[:MOST_LINES]
    ]
    heads = ["image", "true", "answered", "left at", "confidence there", "path"]
    caption = f"{counted(len(paths), 'wrong answer')}, the most confident first"
    if len(paths) > MOST_LINES:
        caption += f"; the first {MOST_LINES}, metrics.json holds them all"
    words = "A wrong answer left the right branch at one node; what was answered further down follows from it."
    return [
        paragraph(words),
        table(["node", "wrong answers", "share"], counts, "Where the tree left the right branch"),
        table(heads, lines, caption, {0: "file", 5: "path"}),
    ]


def in_words(path: dict) -> str:
    """Return a path through the tree in words: ``Carci: carcinoma 0.910 → InvIs: insitu 0.620``."""
    return " → ".join(f"{title_of(node)}: {answer} {decimal(sure)}" for node, answer, sure in path.get("path") or ())


def captions(result: dict) -> list[str]:
    """Return what stands under the pictures of the wrong images, in their order."""
    return [
        f"<figcaption><span><b>{for_html(path['truth'])}</b> answered as <b>{for_html(path['label'])}</b></span>"
        f"<span>{for_html(in_words(path))}</span><span>{for_html(path['filename'])}</span></figcaption>"
        for path in wrong(result)[:MOST_PICTURES]
    ]


def gallery(result: dict, thumbnails: dict[str, bytes]) -> list[str]:
    """Return the pictures of the wrong images; ``[]`` where there is none."""
    paths = wrong(result)
    if not paths:
        return []
    cells = []
    for path, caption in zip(paths, captions(result), strict=False):
        content = thumbnails.get(path["filename"])
        alt = f"{path['filename']}, {path['truth']}, answered as {path['label']}"
        cells.append(f"<figure>{image(content, alt) if content else ''}{caption}</figure>")
    words = "Each with the path that led to its answer and the confidence at each node."
    if len(paths) > MOST_PICTURES:
        words = f"The {MOST_PICTURES} most confident of {len(paths)}. " + words
    return [paragraph(words), f'<div class="gallery">{"".join(cells)}</div>']
