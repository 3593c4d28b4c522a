"""The environment variable that decides whether TensorFlow computes with oneDNN."""

import os

SWITCH = "TF_ENABLE_ONEDNN_OPTS"


def is_switched_off() -> bool:
    """Return whether the environment switches oneDNN off, by the words that TensorFlow takes for that."""
    return os.environ.get(SWITCH, "").lower() in ("0", "false")
