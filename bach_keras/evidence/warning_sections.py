"""The part of a report on images unlike those that trained the model."""

from bach_keras.evidence.errors import is_right, judges
from bach_keras.evidence.metrics import in_words
from bach_keras.evidence.page import MISSING, paragraph, table
from bach_keras.evidence.ranges import outside
from bach_keras.evidence.scoring import headline
from bach_keras.wording import counted

# predictions.csv has the measures of all images; a page with thousands would not open.
MOST_LINES = 200


def warnings(result: dict, rows: list[dict]) -> list[str]:
    """Return which images have which warning, and the accuracy of those with and without one."""
    said = result.get("warnings")
    if not said:
        why = (result.get("why") or {}).get("warnings", "this evaluation does not record it.")
        return [paragraph(f"Not measured: {why}", "soft")]
    words = (
        "Each image is compared with those that trained the model: its blur, its share of tissue, the colours of its "
        "stain and its distance to the nearest training image in the model's features. What lies outside their range "
        "is a warning; of images like them about 5 % have one."
    )
    counts = [[name, _range(said["ranges"][name]), str(count)] for name, count in said["images"].items()]
    accuracies = [
        [f"images {which} a warning", in_words(said[which]) if said[which] else MISSING]
        for which in ("with", "without")
    ]
    judge = headline(result)[0]
    flagged = [
        (row, outside(row["measured"], said["ranges"])) for row in rows if judges(row, judge) and row["measured"]
    ]
    return [
        paragraph(words),
        table(["", "accuracy"], accuracies, "Accuracy with and without a warning"),
        table(["warning", "range of the training images", "images"], counts, "Warnings"),
        *_images([(row, found) for row, found in flagged if found], judge),
    ]


def _images(flagged, judge) -> list[str]:
    if not flagged:
        return []
    lines = [
        [
            row["filename"],
            row["truth"],
            row["label"],
            "right" if is_right(row, judge) else "wrong",
            "; ".join(f"{each['name']} {each['value']:.4g} ({_range(each['range'])})" for each in found),
        ]
        for row, found in flagged[:MOST_LINES]
    ]
    caption = f"{counted(len(flagged), 'image')} with a warning"
    if len(flagged) > MOST_LINES:
        caption += f"; the first {MOST_LINES}, predictions.csv holds the measures of all"
    heads = ["image", "true", "answered", "", "warnings, each with the range of the training images"]
    return [table(heads, lines, caption, {0: "file", 4: "long"})]


def _range(bounds) -> str:
    return f"{bounds[0]:.4g} to {bounds[1]:.4g}"
