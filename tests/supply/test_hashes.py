"""Every pin has its hashes, and make installs by these alone."""

import re

import pytest

from supply.hashes import BUILD_FILE, BUILDERS
from supply.pins import HASHED, ROOT, all_pins, files, normalised, parse, read


@pytest.mark.parametrize("path", files(), ids=lambda path: path.name)
def test_the_twin_of_a_file_of_requirements_has_its_pins_with_hashes(path):
    plain, hashed = read(path), read(HASHED / path.name)
    assert hashed.includes == plain.includes
    assert [str(pin) for pin in hashed.pins] == [str(pin) for pin in plain.pins]
    assert [pin.name for pin in hashed.pins if not pin.digests] == []


def test_no_twin_is_left_over():
    assert {path.name for path in HASHED.iterdir()} == {*(path.name for path in files()), BUILD_FILE.name}


def test_what_builds_packages_is_pinned_to_the_version_that_is_installed():
    pins = {pin.key: pin for pin in read(HASHED / "requirements.txt").pins}
    assert list(read(BUILD_FILE).pins) == [pins[name] for name in BUILDERS]


def test_a_package_has_one_version_in_what_is_installed_together():
    versions = {}
    for path in sorted(ROOT.glob("requirements*.txt")):
        if path.name != "requirements-supply.txt":  # these are installed apart
            for pin in read(path).pins:
                versions.setdefault(pin.key, set()).add(pin.version)
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}
    assert versions.keys() < {pin.key for pin in all_pins()}


def test_make_installs_nothing_whose_hash_is_not_known():
    made = re.sub(r"\\\n\s*", " ", (ROOT / "Makefile").read_text())
    recipes = [line for line in made.splitlines() if "pip install" in line]
    assert recipes == ["INSTALL := -m pip install --quiet --require-hashes --no-build-isolation -r supply/hashed"]


def test_a_line_that_is_no_pin_is_refused():
    lines = ("click", "click>=8", "https://example.org/click.whl", "click==8.5.1 --hash=md5:0", "click==8.5.1; x")
    for line in lines:
        with pytest.raises(ValueError, match="is not a pin"):
            parse(line, HASHED)


def test_names_are_compared_as_the_index_has_them():
    assert normalised("Backports.StrEnum") == normalised("backports_strenum") == "backports-strenum"
