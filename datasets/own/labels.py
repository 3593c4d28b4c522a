"""What the words for labels in a user's folders or CSV file mean: known names are taken, others asked about."""

from collections import Counter
from collections.abc import Iterable

from datasets.errors import UserError
from datasets.labels import LABELS
from datasets.own.listed import Listed
from datasets.wording import counted

# Words that are usual for a label. They are offered and never assumed: "is" may be anything in another's folder.
_USUAL = {
    "normal": ("healthy", "normaltissue", "n", "norm"),
    "benign": ("benigne", "benignlesion", "b", "ben"),
    "insitu": ("dcis", "lcis", "cis", "is", "carcinomainsitu", "insitucarcinoma", "ductalcarcinomainsitu"),
    "invasive": ("idc", "ilc", "iv", "inv", "invasivecarcinoma", "infiltrating", "invasiveductalcarcinoma"),
    "malignant": ("malign", "maligne", "m", "cancer", "tumor", "tumour", "carcinoma"),
}
_OFFERED = {word: label for label, words in _USUAL.items() for word in (label, *words)}


def read_meanings(given: Iterable[str]) -> dict[str, str]:
    """Read what ``--label`` gives, WORD=LABEL: word -> label, "" for what is to be left out."""
    meanings = {}
    for text in given:
        word, sign, label = text.rpartition("=")
        label = label.strip().casefold()
        if not sign or not word.strip() or (label and label not in LABELS):
            raise UserError(
                f"--label {text!r} is not WORD=LABEL: give a word of the folder or CSV file and one of "
                f"{', '.join(LABELS)}, or nothing behind the sign to leave its images out."
            )
        if meanings.setdefault(_plain(word), label) != label:
            raise UserError(f"--label gives {word.strip()!r} two meanings: give it one.")
    return meanings


def with_labels(images: Iterable[Listed], meanings: dict[str, str]) -> list[tuple[Listed, str]]:
    """Return the images with their labels, without those left out; refuse words that nobody gave a meaning."""
    images, known = list(images), {label: label for label in LABELS} | meanings
    words = {_plain(image.label) for image in images}
    if unused := sorted(set(meanings) - words):
        raise UserError(f"--label names {unused[0]!r}, but the words there are {_listed(sorted(words))}: check it.")
    if asked := Counter(image.label for image in images if _plain(image.label) not in known):
        counts = _listed([f"{word!r} ({counted(count, 'image')})" for word, count in sorted(asked.items())])
        options = " ".join(f'--label "{word}={_OFFERED.get(_letters(word), "LABEL")}"' for word in sorted(asked)[:8])
        raise UserError(
            f"Nothing says which labels these are: {counts}. Say it, as in {options}, LABEL being one of "
            f"{', '.join(LABELS)}, or nothing to leave those images out."
        )
    labelled = [(image, known[_plain(image.label)]) for image in images]
    return [(image, label) for image, label in labelled if label]


def _plain(word: str) -> str:
    return word.strip().casefold()


def _letters(word: str) -> str:
    return "".join(letter for letter in word.casefold() if letter.isalpha())


def _listed(words: list[str]) -> str:
    return ", ".join(words[:8]) + (f" and {len(words) - 8} more" if len(words) > 8 else "")
