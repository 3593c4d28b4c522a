"""Which images made a system what it is: the one home of the guard against leaks."""

from dataclasses import dataclass

from datasets.errors import UserError


@dataclass(frozen=True)
class Provenance:
    """What trained a system, and what chose among its epochs and starts; of several parts it is their ``|``."""

    trained_on: frozenset[str] = frozenset()  # images that it, or a run it started from, trained on
    chosen_on: frozenset[str] = frozenset()  # images that chose an epoch, a start, a temperature or a threshold
    protocols: frozenset[str] = frozenset()  # by which its members were split

    def __or__(self, other: "Provenance") -> "Provenance":
        return Provenance(
            self.trained_on | other.trained_on, self.chosen_on | other.chosen_on, self.protocols | other.protocols
        )

    def check_leaks(self, filenames) -> None:
        """Refuse images that trained the system, and a system of which nobody knows what trained it."""
        if not self.trained_on:
            raise UserError(
                "This system does not say which images trained it, so a leak would not be seen: export it again."
            )
        seen = sorted(self.trained_on & set(filenames))
        if seen:
            named = ", ".join(seen[:5]) + (", ..." if len(seen) > 5 else "")
            raise UserError(
                f"{len(seen)} of these {len(filenames)} images trained a member of this system ({named}), so a score "
                "on them would mean nothing: evaluate on a protocol that kept them apart."
            )

    def mixed_with(self, protocol: str, files: dict[str, list[str]]) -> str:
        """Return a sentence where members were split otherwise than the images that judge them, else ""."""
        others = sorted(self.protocols - {protocol, ""})
        if others:
            return (
                f"This score mixes protocols: its images are those that {protocol} holds out, but members were trained "
                f"under {', '.join(others)}. Do not compare it with scores of a single protocol."
            )
        known = frozenset().union(*files.values())
        if (self.trained_on & known) - set(files["train"]) or (self.chosen_on & known) - set(files["validation"]):
            return (
                "This score mixes splits: a member, or a run it started from, was trained on another split than this "
                f"one by {protocol}, such as another seed's. Do not compare it with scores of a single split."
            )
        return ""
