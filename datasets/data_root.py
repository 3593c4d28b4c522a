"""Where data sets live."""

import os
from pathlib import Path


def data_root(data_dir: Path | None) -> Path:
    """Return the folder of data sets; the default one is TFDS's."""
    return Path(os.path.expanduser(data_dir or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")))
