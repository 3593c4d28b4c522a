"""What a check found: how it is, and what to do where it is not well."""

from dataclasses import asdict, dataclass
from pathlib import Path

PASS, WARN, FAIL = "PASS", "WARN", "FAIL"

ROOT = Path(__file__).parent.parent.parent  # the folder of the project


@dataclass(frozen=True)
class Finding:
    """What one check found; all but a PASS says what to do."""

    name: str
    status: str
    value: str
    fix: str = ""

    @property
    def as_json(self) -> dict[str, str]:
        return asdict(self)


@dataclass(frozen=True)
class Asked:
    """What the user wants examined."""

    data_dir: Path | None = None
    model: Path | None = None
    expects_gpu: bool = False


def passed(name: str, value: str) -> Finding:
    return Finding(name, PASS, value)


def warned(name: str, value: str, fix: str) -> Finding:
    return Finding(name, WARN, value, fix)


def failed(name: str, value: str, fix: str) -> Finding:
    return Finding(name, FAIL, value, fix)


def in_a_line(error: BaseException) -> str:
    """Return what an error says, with its kind, in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
