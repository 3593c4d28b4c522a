"""A home of the tests' own, and a tree of three tiny runs on phantoms, trained once for all tests that read runs."""

from tests import sandbox

HOME = sandbox.enter()  # before TensorFlow, Keras and TFDS look for theirs

import gc  # noqa: E402
import logging  # noqa: E402
from pathlib import Path  # noqa: E402

import keras  # noqa: E402
import pytest  # noqa: E402

from bach_keras.commands.console import PACKAGES, Console  # noqa: E402
from bach_keras.members import load_member  # noqa: E402
from tests import few_phantoms as few  # noqa: E402
from tests import trainings  # noqa: E402

# TensorFlow's graphs are very many objects, and looking through those that stay for cycles took a tenth of all tests.
gc.collect()
gc.freeze()
gc.set_threshold(50_000, 20, 50)

# What takes longest comes first, so that of two workers none is left with a long file when the other has ended.
LONGEST = ("training", "serving", "test_cli.py")


def pytest_collection_modifyitems(items):
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.relative_to(Path(__file__).parent).parts[0], len(places)))


@pytest.fixture(autouse=True)
def seeded():
    """A network of random weights is the same in every run: some draws magnify rounding tenfold."""
    keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True)
def own_log():
    """A command that a test runs in this process shows the log; the next test begins without that."""
    yield
    root = logging.getLogger()
    for handler in [each for each in root.handlers if isinstance(each, Console)]:
        root.removeHandler(handler)
    for name in PACKAGES:
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def few_phantoms():
    return few.few_phantoms()


@pytest.fixture(scope="session")
def recipe():
    return few.RECIPE


@pytest.fixture(scope="session")
def tree_of_runs(few_phantoms, tmp_path_factory):
    """Return node name -> run folder: carci from random weights, its specialists from carci."""
    root = tmp_path_factory.mktemp("runs")
    folders = {}
    for node in ("carci", "norbe", "invis"):
        start = trainings.start_at(folders["carci"]) if folders else trainings.RANDOM
        folders[node] = root / node
        trainings.trained(trainings.job(folders[node], node, start, data=few_phantoms))
    return folders


@pytest.fixture(scope="session")
def members(tree_of_runs):
    return [load_member(node, str(folder)) for node, folder in tree_of_runs.items()]


@pytest.fixture(scope="session")
def exported(members, tmp_path_factory):
    from bach_keras.serving.export import export_tree

    return export_tree(members, tmp_path_factory.mktemp("models") / "tree" / "1")
