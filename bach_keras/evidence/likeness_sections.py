"""The part of a report on how the images that judge differ from those that trained the system."""

from bach_keras.evidence import looks
from bach_keras.evidence.finding_sections import HEADS, plots, rows
from bach_keras.evidence.findings import TRAINING
from bach_keras.evidence.likeness import in_words
from bach_keras.evidence.page import figures, paragraph, table


def likeness(result: dict, _rows: list[dict]) -> list[str]:
    """Return what was compared with the training images; nothing where it was not recorded."""
    said = result.get("likeness")
    if not said:
        return []
    words = (
        "A score says little of images unlike those that it was measured on, and images unlike those that trained a "
        "system are often answered worse. Here is the distance of the two: Known is of the training images, which "
        "count as many as they have patients; so do these images. p-values are Fisher's for the share of warnings and "
        "Kolmogorov and Smirnov's for distributions, corrected by Holm for their number; different is below 0.05. "
        "That nothing differs is no proof: another organ, disease or way of labelling is not measured."
    )
    directions = looks.in_words(result["looks"]) if "looks" in result else []
    return [
        paragraph(" ".join([in_words(said), *directions])),
        table(HEADS, rows(said["findings"]), "These images and those that trained it"),
        figures(plots(said["findings"], TRAINING)),
        paragraph(words, "soft"),
    ]
