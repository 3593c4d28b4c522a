"""Importing names from ``datasets`` must stay cheap: the command line does it before anything else."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    "module",
    [
        "datasets",
        "datasets.labels",
        "datasets.splits",
        "datasets.audit",
        "datasets.duplicates.copies",
        "datasets.bach_bisque",
    ],
)
def test_import_brings_no_tensorflow(module):
    code = f"import sys, {module}; sys.exit('tensorflow' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
