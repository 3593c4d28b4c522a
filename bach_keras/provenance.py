"""Which images made a system what it is: the one home of the guard against leaks.

An image is known again by its pixels, whatever file it lies in and whatever it is called. Names count as well: those of
the images that trained an older run are all that is known of them, and an image of a published set that was saved
again, with other pixels, is still that image. Names of a user's own images identify nothing, as two users may both have
an ``own-images/benign/1.png``: they count only where pixels are not known.
"""

import functools
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from datasets.errors import UserError
from datasets.own.names import is_own
from datasets.wording import counted

# Of the SHA-256 of an image's size and pixels. Two different images have the same 16 once in 2 ** 64 pairs: among
# 20,000 images that trained and 20,000 that judge, with a chance of 2e-11. It would refuse one that did not train.
DIGITS = 16

_MOST_NAMED = 5


@dataclass(frozen=True)
class Provenance:
    """What trained a system, and what chose among its epochs and starts; of several parts it is their ``|``."""

    trained_on: frozenset[str] = frozenset()  # images that it, or a run it started from, trained on
    chosen_on: frozenset[str] = frozenset()  # images that chose an epoch, a start, a temperature or a threshold
    protocols: frozenset[str] = frozenset()  # by which its members were split
    # File name and digest of each of these images; of what an earlier version trained they are not known.
    pixels: frozenset[tuple[str, str]] = frozenset()

    @classmethod
    def of(cls, digests: Mapping[str, str], trained: Iterable[str] = (), chosen: Iterable[str] = ()) -> "Provenance":
        """Return that of images by their names; ``digests`` are their names -> SHA-256 of size and pixels."""
        trained, chosen = frozenset(trained), frozenset(chosen)
        pixels = frozenset((name, digests[name][:DIGITS]) for name in trained | chosen)
        return cls(trained, chosen, pixels=pixels)

    @classmethod
    def read(cls, fields: dict, protocols: Iterable[str] = ()) -> "Provenance":
        """Take it from the ``fields`` of a file, checked; those that are missing name no images.

        Refuses pixels of an image that neither trained nor chose: a name was changed, and a leak would not be seen.
        """
        pixels = {(name, digest) for name, said in fields.get("pixels", {}).items() for digest in said.split()}
        trained, chosen = (frozenset(fields.get(name, ())) for name in ("trained_on", "chosen_on"))
        if strangers := {name for name, _ in pixels} - trained - chosen:
            raise UserError(f"pixels names {min(strangers)!r}, which trained_on and chosen_on do not")
        return cls(trained, chosen, frozenset(protocols), frozenset(pixels))

    @classmethod
    def of_members(cls, members) -> "Provenance":
        """Return that of all members of a system together."""
        return functools.reduce(operator.or_, [member.provenance for member in members])

    @property
    def fields(self) -> dict:
        """What a file says of the images: ``trained_on``, ``chosen_on``, and file name -> digest as ``pixels``."""
        # A name has two digests where its image was changed between two trainings.
        pixels = {name: " ".join(digests) for name, digests in self._digests.items()}
        return {"trained_on": sorted(self.trained_on), "chosen_on": sorted(self.chosen_on), "pixels": pixels}

    @property
    def choice(self) -> "Provenance":
        """The images that chose something, alone."""
        pixels = frozenset(pair for pair in self.pixels if pair[0] in self.chosen_on)
        return Provenance(chosen_on=self.chosen_on, pixels=pixels)

    def __or__(self, other: "Provenance") -> "Provenance":
        return Provenance(
            self.trained_on | other.trained_on,
            self.chosen_on | other.chosen_on,
            self.protocols | other.protocols,
            self.pixels | other.pixels,
        )

    @functools.cached_property
    def _digests(self) -> dict[str, list[str]]:
        """Name -> the digests of the images that had it."""
        return _listed(sorted(self.pixels))

    @functools.cached_property
    def _names(self) -> dict[str, list[str]]:
        """Digest -> the names of the images that have it."""
        return _listed((digest, name) for name, digest in sorted(self.pixels))

    def trained(self, digests: Mapping[str, str]) -> dict[str, str]:
        """Return which of some images (name -> SHA-256) trained the system: name -> the name that it trained under."""
        return self._among(self.trained_on, digests)

    def chosen(self, digests: Mapping[str, str]) -> dict[str, str]:
        """Return which of some images chose something of the system, as ``trained`` does."""
        return self._among(self.chosen_on, digests)

    def _among(self, images, digests) -> dict[str, str]:
        found = {}
        for name, digest in digests.items():
            alike = [other for other in self._names.get(digest[:DIGITS], ()) if other in images]
            is_named = name in images and not self._is_another(name, digest)
            if is_named or alike:
                found[name] = name if is_named else alike[0]
        return found

    def _is_another(self, name: str, digest: str) -> bool:
        """Say whether an own image has the name of one that is known here and other pixels, so that it is another."""
        known = self._digests.get(name, ())
        return is_own(name.partition("/")[0]) and bool(digest and known) and digest[:DIGITS] not in known

    def namesakes(self, digests: Mapping[str, str]) -> str:
        """Return a sentence on own images that have the name of one that trained the system and other pixels, or ""."""
        found = sorted(n for n, digest in digests.items() if n in self.trained_on and self._is_another(n, digest))
        if not found:
            return ""
        return (
            f"Of other pixels under the name of an image that trained: {counted(len(found), 'image')} ({found[0]}). "
            "They count as other images; if they were only saved again, the score flatters."
        )

    def unchanged(self, digests: Mapping[str, str]) -> list[str]:
        """Return those of some images that trained the system under these names with these pixels, if it knows them."""
        return sorted(
            name
            for name, digest in digests.items()
            if name in self.trained_on and (name not in self._digests or digest[:DIGITS] in self._digests[name])
        )

    @property
    def without_pixels(self) -> int:
        """Of how many of the images that trained it only the names are known."""
        return len(self.trained_on - set(self._digests))

    def check_leaks(self, digests: Mapping[str, str]) -> None:
        """Refuse images (name -> SHA-256) that trained the system, and a system of which nobody knows what did."""
        if not self.trained_on:
            raise UserError(
                "This system does not say which images trained it, so a leak would not be seen: export it again."
            )
        if seen := self.trained(digests):
            raise UserError(
                f"{len(seen)} of these {len(digests)} images trained a member of this system "
                f"({self.in_words(seen, digests)}), so a score on them would mean nothing: evaluate on a protocol that "
                "kept them apart, or on all images that did not train with --split all."
            )

    def in_words(self, seen: Mapping[str, str], digests: Mapping[str, str]) -> str:
        """Return a few of the images that ``trained`` or ``chosen`` found, each as ``name = the other name``."""
        named = [self._in_words(name, seen[name], digests[name]) for name in sorted(seen)[:_MOST_NAMED]]
        return ", ".join(named) + (f" and {len(seen) - _MOST_NAMED} more" if len(seen) > _MOST_NAMED else "")

    def _in_words(self, name: str, other: str, digest: str) -> str:
        if name != other:
            return f"{name} = {other}"
        has_others = digest[:DIGITS] not in self._digests.get(name, [digest[:DIGITS]])
        return f"{name} with other pixels" if has_others else name

    def mixed_with(self, protocol: str, files: dict[str, list[str]], digests: Mapping[str, str]) -> str:
        """Return a sentence where members were split otherwise than the images that judge them, else ""."""
        others = sorted(self.protocols - {protocol, ""})
        if others:
            return (
                f"This score mixes protocols: its images are those that {protocol} holds out, but members were trained "
                f"under {', '.join(others)}. Do not compare it with scores of a single protocol."
            )
        known = {name: digests.get(name, "") for held in files.values() for name in held}
        if set(self.trained(known)) - set(files["train"]) or set(self.chosen(known)) - set(files["validation"]):
            return (
                "This score mixes splits: a member, or a run it started from, was trained on another split than this "
                f"one by {protocol}, such as another seed's. Do not compare it with scores of a single split."
            )
        return ""


def _listed(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Return the first of each pair -> the second of all pairs that begin with it, in their order."""
    found = {}
    for first, second in pairs:
        found.setdefault(first, []).append(second)
    return found
