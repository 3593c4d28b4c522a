"""What is known of a file of weights beside its numbers: what images it expects, where it is from, its terms of use."""

from dataclasses import dataclass

from bach_keras.fields import plain, shown
from bach_keras.network.held import Held
from bach_keras.network.layouts import TIATOOLBOX
from bach_keras.network.published import CC0, CC_BY, Published, published_as
from bach_keras.normalisation import IMAGENET, NORMALISATIONS, UNIT
from datasets.digest import sha256_of
from datasets.errors import UserError

ATTRIBUTES, DIGEST, PLACE, LAYOUT = "attributes", "digest", "place", "layout"
USER, NOTHING = "user", "nothing"
_REASONS = {
    ATTRIBUTES: "as the file says",
    DIGEST: "as is known of the file with this SHA-256",
    PLACE: "as is known of what is published there",
    LAYOUT: "as networks in this layout were trained",
    USER: "as --normalisation says",
    NOTHING: "which is assumed, as nothing says otherwise",
}
# What tiatoolbox trained a network of so many classes on, and the licence that its page on pretrained models gives.
_BY_CLASSES = {9: ("Kather100K", CC_BY), 2: ("PCam", CC0)}
# These are guesses, which the user's word overrides.
_GUESSED = (LAYOUT, NOTHING)
_IMAGES = {IMAGENET: "images normalised by ImageNet's statistics", UNIT: "pixels / 255 alone"}


@dataclass(frozen=True)
class Facts:
    """What is known of weights, and how their normalisation is."""

    normalisation: str
    known_by: str  # ATTRIBUTES of a .h5, DIGEST, the PLACE it was fetched from, LAYOUT, USER or NOTHING
    source: str
    sha256: str  # of the file before it was ported; empty where a .h5 does not say it
    licence: str | None = None

    @property
    def images(self) -> str:
        """Return in words what images the weights are for, and why that is thought."""
        return f"{_IMAGES[self.normalisation]}, {_REASONS[self.known_by]}"


def facts_of(held: Held, normalisation: str | None = None, published: Published | None = None) -> Facts:
    """Return what is known of a network in a file.

    ``normalisation`` is the user's word, where nothing but the layout says it; ``published`` is what was fetched, where
    its digest is not known.
    """
    found = _as_said(held) if held.checkpoint.format == "h5" else _by_content(held, published)
    if normalisation is None or (normalisation == found.normalisation and found.known_by not in _GUESSED):
        return found
    if found.known_by not in _GUESSED:
        raise UserError(f"{held.path} is for {found.images}, so --normalisation {normalisation} would be wrong.")
    # A network that was trained otherwise is not the published one.
    licence = found.licence if normalisation == found.normalisation else None
    return Facts(normalisation, USER, found.source, found.sha256, licence)


def _by_content(held: Held, fetched: Published | None) -> Facts:
    sha256 = sha256_of(held.path)
    for published, known_by in ((published_as(sha256), DIGEST), (fetched, PLACE)):
        if published:
            return Facts(published.normalisation, known_by, published.title, sha256, published.licence)
    name = plain(held.path.name, 255)
    if held.network.layout != TIATOOLBOX:
        return Facts(IMAGENET, NOTHING, name, sha256)
    data, licence = _BY_CLASSES.get(held.classes, ("", None))
    # Anyone may train a network of so many classes in this layout: only under the name of a published file is it that.
    if data and data.lower() not in name.lower():
        licence = f"{licence}, if it is tiatoolbox's of {data}"
    of_data = f", with as many classes as {data} has" if data else ""
    return Facts(UNIT, LAYOUT, f"{name}, in tiatoolbox's layout{of_data}", sha256, licence)


def _as_said(held: Held) -> Facts:
    """Return what a .h5 says; one from before it said so takes ImageNet's statistics."""
    said = held.checkpoint.said
    normalisation, sha256 = said.get("normalisation", IMAGENET), said.get("source_sha256", "")
    if normalisation not in NORMALISATIONS:
        raise UserError(
            f"{held.path} is for the normalisation {shown(normalisation)}, and only {' and '.join(NORMALISATIONS)} are "
            "known here: port the weights again."
        )
    known_by = ATTRIBUTES if "normalisation" in said else NOTHING
    published = published_as(sha256)
    if published and published.normalisation == normalisation:
        return Facts(normalisation, known_by, published.title, sha256, published.licence)
    licence = plain(said["licence"], 100) if "licence" in said else None
    return Facts(normalisation, known_by, plain(said.get("origin") or held.path.name, 255), sha256, licence)
