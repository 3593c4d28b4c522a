"""What a door made of one input."""

from dataclasses import asdict, dataclass, field

ANSWERED, REFUSED, CRASHED, HUNG = "answered", "refused", "crashed", "hang"

# A sentence is not a page: what repeats an input at length has not said what is wrong.
LONGEST = 1500


@dataclass
class Answer:
    """Whether an input was answered or refused, or hung, in which words, and what of the outputs is at fault."""

    kind: str
    words: str = ""
    faults: list[str] = field(default_factory=list)

    def as_json(self) -> dict:
        return asdict(self)


def of_refusal(words: str) -> Answer:
    """Return a refusal, with a fault where it has no words, too many, or those of our own code."""
    lines = [line for line in words.splitlines() if line.strip()]
    faults = []
    if not lines:
        faults.append("it is refused without a word")
    if len(words) > LONGEST:
        faults.append(f"the refusal has {len(words)} characters")
    if "Traceback" in words or 'File "' in words:
        faults.append("the refusal shows our code")
    return Answer(REFUSED, words[-2000:], faults)
