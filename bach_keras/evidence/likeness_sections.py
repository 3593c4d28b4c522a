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
        "Images unlike those that trained a system are often answered worse. Known is of the training images. Both "
        "sides count by their patients. p-values are Fisher's for the share of warnings and Kolmogorov and Smirnov's "
        "for distributions, corrected by Holm for their number; different is below 0.05. That nothing differs is no "
        "proof that the system can judge them: another organ, disease or way of labelling is not measured."
    )
    directions = looks.in_words(result["looks"]) if "looks" in result else []
    return [
        paragraph(" ".join([in_words(said), *directions])),
        table(HEADS, rows(said["findings"]), "These images and those that trained it"),
        figures(plots(said["findings"], TRAINING)),
        paragraph(words, "soft"),
    ]
