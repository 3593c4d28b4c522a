"""The model card: what an export says about itself."""

from pathlib import Path

from bach_keras.calibration import ANSWERED, COUNT_OF_VIEWS, Calibration
from bach_keras.evidence.metrics import in_words as accuracy_in_words
from bach_keras.evidence.neighbours import FILE as INDEX
from bach_keras.evidence.ranges import Ranges
from bach_keras.evidence.stains import in_words
from bach_keras.fields import (
    NAME,
    OBJECT,
    PIXELS,
    SHA256,
    TEXT,
    TEXTS,
    FieldError,
    Kind,
    check,
    list_of,
    number,
    one_of,
    shown,
    whole,
)
from bach_keras.provenance import Provenance
from bach_keras.serving.answers import Outputs
from bach_keras.serving.licence import licence_of
from bach_keras.tree import NODES, TEMPERATURES, WEIGHTS, classes_of
from bach_keras.wording import counted
from datasets.config_names import named_parts
from datasets.escape import for_markdown
from datasets.own.names import is_own

# The file's name: in an export's assets/ and in a TFLite file.
CARD = "model_card.json"

# The version of an export's decoder. Cards without it mean TensorFlow's defaults; 2 gives exactly Pillow's pixels.
DECODING = 2

# The types that an export can compute its feature maps in; cards without one mean the first.
PRECISIONS = ("float32", "bfloat16", "float16")

# What each data set configuration is, and its terms of use.
DATA = {
    "bach": "BACH, ICIAR 2018 challenge, Zenodo 3632035: 400 images, CC BY-NC-ND 4.0.",
    "bisque": "BISQUE breast cancer cells, 58 images.",
    "bach_bisque": "BACH (400 images, CC BY-NC-ND 4.0) and BISQUE (58 images) together.",
    "phantom": "SYNTHETIC images, drawn by a program. Answers about real tissue mean NOTHING.",
}

LIMITS = [
    "Research software, not a medical device. Not for diagnosis.",
    "It answers for H&E breast tissue at about 0.42 micrometres a pixel, seen whole in the image's central square; "
    "it has no answer for anything else. Its warnings notice some of that, and not all.",
    "A member's accuracy is on few images; where its split says validation, those images also chose its epoch.",
]


def model_card(
    members,
    precision: str = "float32",
    calibration: Calibration | None = None,
    views: int = 1,
    knows: dict | None = None,
) -> dict:
    """Return what ``assets/model_card.json`` holds: the members, what they saw, and what the model is not.

    ``knows`` are fields of what the export knows of its training images, if it does.
    """
    view = members[0].view
    provenance = Provenance.of_members(members)
    if calibration:
        provenance |= calibration.provenance
    configs = sorted({member.config for member in members})
    parts = sorted({part for config in configs for part in named_parts(config)})
    nodes = tuple(name for name in NODES if any(member.node == name for member in members))
    is_node = len(nodes) == 1
    card = {
        "name": f"{NODES[nodes[0]].title} of the BACH hierarchy" if is_node else "BACH hierarchy",
        "kind": "node" if is_node else "system",
        **({"node": nodes[0]} if is_node else {}),
        "classes": list(classes_of(nodes)),
        "nodes": {name: list(NODES[name].classes) for name in nodes},
        "views": views,
        "image_size": view.image_size,
        "stain_normalisation": view.stain_normalisation,
        "decoding": DECODING,
        "precision": precision,
        "configs": configs,
        "data": {part: words for part in parts if (words := _data(part))},
        "members": [
            {
                "node": member.node,
                "source": Path(member.source).name,
                "weight": member.weight,
                "temperature": member.temperature,
                "protocol": "".join(member.provenance.protocols),  # a member has one at most
                "metrics": member.metrics,
            }
            for member in members
        ],
        **provenance.fields,
        "licence": licence_of(members, has_own=any(map(is_own, parts))),
        "limits": LIMITS,
    }
    # Where nothing was calibrated or no training image is known, nothing is said of it, as in older cards.
    return card | ({"calibration": calibration.in_card()} if calibration else {}) | (knows or {})


def _data(part: str) -> str | None:
    """Return what a configuration's images are; of one that is not known, nothing is said."""
    own = f"Images of a user's own, prepared as {part}. Their owner says who may use them, and what trained on them."
    return own if is_own(part) else DATA.get(part)


def warnings_of(card: dict | None) -> tuple[str, ...]:
    """Return what must be known before any answer of a model is read; a card of None is not known."""
    if card is None:
        return ("WARNING: the server does not say what its model was trained on.",)
    found = []
    if "phantom" in card["configs"]:
        found.append(
            "WARNING: this model learned from synthetic phantom images. Its answers about tissue mean NOTHING."
        )
    if not isinstance(number := card.get("decoding"), int) or number < DECODING:
        found.append(
            "WARNING: this export decodes JPEG with libjpeg's fast transform, whose pixels differ by up to 20 levels "
            "from other programs and from this version, so a label may differ: export it again."
        )
    return tuple(found)


_SOME_TEXTS = Kind("a list of text that is not empty", lambda value: TEXTS.fits(value) and len(value) > 0)

# The side of the square that a model sees.
SIDE = whole(32, 4096)

# What is read from a card. Cards of older exports say less, and nothing relies on what is optional.
_FIELDS = {
    "configs": list_of(NAME, 1, 100), "image_size": SIDE, "members": list_of(OBJECT, 1, 1000),
    # Every member was trained on something: an empty list would blind the guard against leaks.
    "trained_on": _SOME_TEXTS, "chosen_on": TEXTS,
}  # fmt: skip
_MORE = {
    "name": TEXT, "nodes": OBJECT, "data": OBJECT,
    "stain_normalisation": one_of("none", "macenko", "reinhard"), "decoding": whole(1), "licence": TEXT,
    "precision": one_of(*PRECISIONS), "limits": TEXTS, "pixels": PIXELS,
}  # fmt: skip
# What a model answers. An older card says nothing of it: it is a tree's, of one view of an image.
OF_OUTPUTS = {"kind": one_of("system", "node"), "node": one_of(*NODES), "views": COUNT_OF_VIEWS, "index": OBJECT}
# The index of the training images: how many it holds, how many of them with a thumbnail, and the SHA-256 of its file.
_INDEX = {"images": whole(2), "thumbnails": whole(), "sha256": SHA256}
_MEMBER = {"node": one_of(*NODES)}
_MEMBER_MORE = {
    "source": TEXT, "weight": number(*WEIGHTS), "temperature": number(*TEMPERATURES), "protocol": TEXT,
    "metrics": OBJECT,
}  # fmt: skip


def check_card(card: dict) -> dict:
    """Check what a card says before any of it is relied on, and return it; a FieldError names a wrong field."""
    check(card, _FIELDS, _MORE)
    outputs = outputs_of(card)
    classes = list(outputs.classes)
    check(card, {}, {"classes": Kind(f"the list {', '.join(classes)}", lambda value: value == classes)})
    for number_of, member in enumerate(card["members"]):
        check(member, _MEMBER, _MEMBER_MORE, within=f"members[{number_of}]")
        if member["node"] not in outputs.nodes:
            raise FieldError(f"members[{number_of}].node must be {outputs.nodes[0]}, not {shown(member['node'])}")
    if missing := [name for name in outputs.nodes if not any(member["node"] == name for member in card["members"])]:
        raise FieldError(f"members must be of each node, but none is of {', '.join(missing)}")
    ranges_of(card)
    calibration = calibration_of(card)
    if calibration and len(outputs.nodes) == 1:
        raise FieldError("calibration must be left out, as a node by itself has no thresholds")
    if calibration and calibration.views != outputs.views:
        raise FieldError(f"calibration.views must be {outputs.views}, as views is, not {calibration.views}")
    return card


def outputs_of(card: dict) -> Outputs:
    """Return what a model answers by its card, checked; a FieldError names a wrong field."""
    check(card, {}, OF_OUTPUTS)
    if "index" in card:
        check(card["index"], _INDEX, within="index")
    if card.get("kind") == "node":
        check(card, {"node": OF_OUTPUTS["node"]})
    nodes = (card["node"],) if card.get("kind") == "node" else tuple(NODES)
    return Outputs(nodes, card.get("views", 1), "index" in card)


def calibration_of(card: dict) -> Calibration | None:
    """Return the thresholds that a card names, checked; None where the tree was not calibrated."""
    return Calibration.of(card["calibration"], within="calibration") if "calibration" in card else None


def ranges_of(card: dict) -> Ranges | None:
    """Return the ranges of the training images that a card names, checked; None of a card without."""
    return Ranges.of(card["ranges"]) if "ranges" in card else None


def as_markdown(card: dict) -> str:
    """Return a model card as a page to read; text from the card is escaped, so that it adds no markup."""
    members = [
        _row(m["node"], m["source"], f"{m['weight']:g}", f"{m['temperature']:g}", m["protocol"], _score(m))
        for m in card["members"]
    ]
    size, count = card["image_size"], len(card["members"])
    joined = counted(count, "network") if card.get("kind") == "node" else f"a tree of {counted(count, 'network')}"
    views = f", averaged over {card['views']} views of an image" if card.get("views", 1) > 1 else ""
    return "\n".join([
        f"# {for_markdown(card['name'])}",
        "",
        for_markdown(
            f"Sorts breast histology images into {', '.join(card['classes'])}, through {joined} of "
            f"{size}x{size} pixels, computed in {card.get('precision', PRECISIONS[0])}{views}."
        ),
        "",
        "## Limits",
        "",
        *(f"- {for_markdown(limit)}" for limit in card["limits"]),
        "",
        "## Data",
        "",
        *(f"- {for_markdown(f'{config}: {words}')}" for config, words in card["data"].items()),
        f"- {len(card['trained_on'])} images trained it and {len(card['chosen_on'])} chose an epoch, a start, a "
        "temperature or a threshold; `assets/model_card.json` names them, with digests of their pixels.",
        *_index(card),
        *_stains(card),
        *_calibration(card),
        *_ranges(card),
        "",
        "## Members",
        "",
        "| node | run | weight | temperature | protocol | accuracy |",
        "|---|---|---|---|---|---|",
        *members,
        "",
        "## Licence",
        "",
        for_markdown(card["licence"]),
        "",
    ])  # fmt: skip


def _row(*cells) -> str:
    return f"| {' | '.join(map(for_markdown, cells))} |"


def _index(card) -> list[str]:
    """Return a line on the index of the training images."""
    if "index" not in card:
        return []
    index = card["index"]
    pictures = f"{index['thumbnails']} with a thumbnail" if index["thumbnails"] else "without pictures"
    return [f"- `assets.extra/{INDEX}` knows {index['images']} of the images that trained it by name, {pictures}."]


def _stains(card) -> list[str]:
    """Return a line for each member's images on which of them the stain normalisation left as they are."""
    method = card.get("stain_normalisation", "none")
    if method == "none":
        return []
    lines = []
    for member in card["members"]:
        counted = member["metrics"].get("stains", {"training": None})
        for name, counts in counted.items():
            words = in_words(counts) if counts else f"{method}, and how many it left as they are was not counted"
            lines.append("- " + for_markdown(f"{member['node']} {member['source']}, {name} images: {words}."))
    return lines


def _calibration(card) -> list[str]:
    """Return what is said of the thresholds from which the model is unsure."""
    calibration = calibration_of(card)
    if calibration is None:
        return []
    lines = [
        f"{calibration.n} {calibration.split} images of {calibration.groups} patients chose the thresholds "
        f"(config {calibration.config}, protocol {calibration.protocol}; views of each image: {calibration.views}).",
        f"unsure: the likeliest class has a probability below {calibration.threshold:g}; {calibration.share:.0%} of "
        "these images were to be so.",
        *(
            f"set{' (this one is answered)' if level == ANSWERED else ''}: every class with a probability of at least "
            f"{threshold:g}; it holds the true class for {float(level):.0%} of the images of new patients like these."
            for level, threshold in calibration.levels.items()
        ),
    ]
    return ["", "## Calibration", "", *("- " + for_markdown(line) for line in lines)]


def _ranges(card) -> list[str]:
    """Return from where on an image has a warning."""
    if "ranges" not in card:
        return []
    ranges = ranges_of(card)
    lines = [
        f"{ranges.n} of the images that trained it, of {counted(ranges.groups, 'patient')}, were measured. An image "
        f"beyond their percentile of {ranges.percentile:.2f} has a warning; of these images {ranges.false_alarms:.1%} "
        "would have one, each judged by those of other patients.",
        *(f"{name}: {low:.4g} to {high:.4g}" for name, (low, high) in ranges.bounds.items()),
        *([f"scale: {ranges.um_per_pixel:g} micrometres a pixel, for the shorter side {ranges.field[0]:.0f} to "
           f"{ranges.field[1]:.0f} micrometres"] if ranges.field else ["scale: unknown"]),
    ]  # fmt: skip
    return ["", "## Images that it can judge", "", *("- " + for_markdown(line) for line in lines)]


def _score(member: dict) -> str:
    # A member that is a snapshot, or was trained on all images, was not measured.
    metrics = member["metrics"]
    if "accuracy" not in metrics:
        return "not measured"
    return f"{accuracy_in_words(metrics)}, {metrics['split']} images"
