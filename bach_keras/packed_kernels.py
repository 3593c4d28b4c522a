"""The switch that lets oneDNN keep packed kernels: set where a process only answers, refused where it trains."""

import os
import sys

from datasets.errors import UserError

# With it oneDNN packs a kernel that is a variable once for each operation, and not again for each answer.
SWITCH = "TF_ONEDNN_ASSUME_FROZEN_WEIGHTS"


def keep_packed_kernels() -> None:
    """Set the switch for TensorFlow, which is to start after this; an environment that says otherwise is obeyed.

    It costs each signature that answers as much memory as the weights.
    """
    # Where TensorFlow has started already, as in a test or in a user's own program, it may also train.
    if "tensorflow" not in sys.modules:
        os.environ.setdefault(SWITCH, "1")


def check_kernels_may_change() -> None:
    """Refuse the switch: a kernel that is trained would be used as it was at first."""
    if os.environ.get(SWITCH, "").lower() not in ("", "0", "false"):
        raise UserError(f"{SWITCH} is set, with which TensorFlow ignores what a training learns: unset it.")
