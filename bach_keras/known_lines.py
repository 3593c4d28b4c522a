"""Passes stdin on to stderr without the lines that TensorFlow and LiteRT write of themselves and nobody can use.

``quiet`` runs this file as a program meanwhile, so it imports next to nothing.
"""

import sys

# A line is known by all of its parts.
ALWAYS = (
    (b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",),
    (b" port.cc:", b"oneDNN custom operations are on"),
    (b" cpu_feature_guard.cc:", b"This TensorFlow binary is optimized"),
    (b"To enable the following instructions:", b"rebuild TensorFlow"),
    (b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.",),
    # Half precision is tried to learn just that.
    (b" util.cc:", b"oneDNN supports DT_HALF only on platforms with"),
)
# Where there is a GPU, these name what is wrong with it.
WITHOUT_GPU = (
    (b" cudart_stub.cc:", b"Could not find cuda drivers on your machine"),
    (b" cuda_platform.cc:", b"failed call to cuInit"),
)


def is_known(line: bytes, has_gpu: bool) -> bool:
    """Say whether a line is one of the start-up's own."""
    return any(all(part in line for part in parts) for parts in (ALWAYS if has_gpu else ALWAYS + WITHOUT_GPU))


def main(has_gpu: bool) -> None:
    """Pass on line by line, each as it comes, to the end of stdin."""
    for line in sys.stdin.buffer:
        if not is_known(line, has_gpu):
            sys.stderr.buffer.write(line)
            sys.stderr.buffer.flush()


if __name__ == "__main__":
    main(has_gpu="gpu" in sys.argv)
