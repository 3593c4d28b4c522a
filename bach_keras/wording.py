"""Words that go with a number, as ``datasets`` has them."""

from datasets.wording import counted

__all__ = ["counted"]
