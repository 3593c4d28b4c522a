"""A home, data, weights, caches and configuration of the tests' own, whatever the user has in the real places."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

# What would lead out of the home: places of data, weights, caches and configuration, keys, and proxies.
_LEADS_OUT = (
    "TFDS_DATA_DIR", "TFHUB_CACHE_DIR", "KERAS_HOME", "KERAS_BACKEND", "TF_USE_LEGACY_KERAS", "TORCH_HOME",
    "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_CACHE", "MPLCONFIGDIR", "MATPLOTLIBRC", "NUMBA_CACHE_DIR", "NETRC",
    "GOOGLE_APPLICATION_CREDENTIALS",
)  # fmt: skip
_LEADS_OUT_PREFIXES = ("XDG_", "HF_")
_LEADS_OUT_SUFFIXES = ("_PROXY",)


def enter() -> Path:
    """Give this process, and those it starts, an empty home and no network; must come before TensorFlow and Keras.

    Returns:
        The home; it is removed at the end.
    """
    home = Path(tempfile.mkdtemp(prefix="bach-keras-home-"))
    for name in list(os.environ):
        upper = name.upper()
        if upper in _LEADS_OUT or upper.startswith(_LEADS_OUT_PREFIXES) or upper.endswith(_LEADS_OUT_SUFFIXES):
            del os.environ[name]
    os.environ["HOME"] = os.environ["USERPROFILE"] = str(home)
    path = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *([path] if path else [])])
    from tests.sandbox import sitecustomize  # noqa: F401 - refuses the network from now on

    atexit.register(_remove, home, os.getpid())
    return home


def _remove(home: Path, owner: int) -> None:
    if os.getpid() == owner:  # a process that was forked ends too
        shutil.rmtree(home, ignore_errors=True)
