"""What the project says of itself, in the files that other programs read."""

import subprocess
import sys
import tomllib

import yaml

from bach_keras.commands.version import VERSION
from supply.bill import described
from supply.pins import ROOT


def test_every_place_names_the_same_version():
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == VERSION
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == VERSION
    assert f"will be {VERSION}" in " ".join((ROOT / "CHANGELOG.md").read_text().split())


def test_the_citation_has_what_its_format_requires_and_the_data_sets_keys():
    held = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= held.keys()
    bibliography = (ROOT / "datasets" / "bach_bisque" / "CITATIONS.bib").read_text().replace("{", "").replace("}", "")
    assert [each["title"] for each in held["references"] if each["title"] not in bibliography] == []


def test_pip_says_in_one_sentence_why_this_is_not_a_package():
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--no-deps", "--no-index", "."]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert "[1 lines of output]" in said
    assert "This project is not a package: " in said
    assert "Traceback" not in said


def test_the_bill_of_materials_names_what_the_project_itself_needs():
    project = tomllib.loads(described())["project"]
    needed = {name.partition("==")[0] for name in project["dependencies"]}
    assert {"tensorflow", "click", "gradio", "tifffile", "ray", "pytest"} <= needed
    assert not {"absl-py", "fastapi", "jsonschema", "pluggy", "cyclonedx-bom"} & needed
    assert (project["name"], project["version"]) == ("bach-keras", VERSION)
