"""Words that go with a number."""


def counted(count: int, noun: str) -> str:
    """Return a number and its noun: ``1 epoch``, ``3 epochs``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
