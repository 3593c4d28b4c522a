"""The API page is what its script makes, and the examples in the docstrings do what they say."""

import doctest
import importlib
import inspect
from pathlib import Path

import pytest
from PIL import Image

from datasets import phantom
from docs import api


def test_the_page_is_what_the_script_makes_of_the_docstrings():
    page = Path("docs/api.md").read_text()
    assert page == api.page(), "run `python -m docs.api docs/api.md`"


@pytest.fixture
def project(exported, tmp_path, monkeypatch):
    """A folder with the export and the images that examples name."""
    (tmp_path / "saved_models" / "demo").mkdir(parents=True)
    (tmp_path / "saved_models" / "demo" / "1").symlink_to(exported)
    (tmp_path / "slides").mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(phantom.draw("benign", 901, 0)).save(tmp_path / "slides" / name)
    monkeypatch.chdir(tmp_path)


def test_the_examples_in_the_docstrings_do_what_they_say(project):
    names = [name for _, found in api.PUBLIC.values() for name in found]
    modules = {name.rpartition(".")[0]: importlib.import_module(name.rpartition(".")[0]) for name in names}
    tried = []
    for name, module in modules.items():
        for example in doctest.DocTestFinder(exclude_empty=True).find(module, name, globs={}):
            if example.examples:
                doctest.DebugRunner().run(example)
                tried.append(example.name)
    with_examples = [name for name in names if ">>>" in (inspect.getdoc(api.found(name)) or "")]
    assert set(with_examples) <= set(tried)
    assert len(with_examples) > 6
