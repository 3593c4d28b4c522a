"""A run that was interrupted after its first epoch, trained once."""

import shutil

import pytest

from bach_keras.run_folder import Run
from tests.trainings import interrupted, job


@pytest.fixture(scope="session")
def after_one_epoch(tmp_path_factory):
    return interrupted(job(tmp_path_factory.mktemp("interrupted") / "run")).folder


@pytest.fixture
def interrupted_run(after_one_epoch, tmp_path):
    """Return a copy of it, a test's own."""
    return Run.open(shutil.copytree(after_one_epoch, tmp_path / "run"))
