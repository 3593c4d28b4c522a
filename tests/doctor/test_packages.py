"""Python and packages: what is missing, half installed or of another version is named with what to do."""

import sys
from importlib import metadata
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement

from bach_keras.doctor import packages
from bach_keras.doctor.finding import FAIL, PASS, ROOT, WARN, Asked

ASKED = Asked()


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Return a folder with one pinned package, ``thing``, complete, and one optional part."""
    monkeypatch.setattr(packages, "ROOT", tmp_path)
    monkeypatch.setattr(packages, "PARTS", {"page": ("requirements-app.txt", "`app`")})
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "requirements.txt").write_text(f"thing==1.0 --hash=sha256:{0:064}\n")
    (tmp_path / "requirements-app.txt").write_text(
        "-r requirements.txt\nextra[all]==2.0\n\n# What that resolved to.\nmore==3.0\n"
    )
    install(tmp_path, "thing", "1.0")
    return tmp_path


def install(folder, name, version):
    (folder / f"{name}.py").write_text("x = 1\n")
    place = folder / f"{name}-{version}.dist-info"
    place.mkdir()
    (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (place / "RECORD").write_text(f"{name}.py,,6\n{name}.pyc,,\n../../bin/{name},,9\n")


def test_what_is_pinned_and_complete_passes(project):
    assert packages.packages(ASKED).status == PASS
    [part] = packages.parts(ASKED)
    assert part.status == PASS
    assert part.value == "not installed; `app` would need `pip install -r requirements-app.txt`"


def test_a_missing_package_is_named(project):
    (project / "requirements.txt").write_text("thing==1.0\nno-such-package==9.9\n")
    found = packages.packages(ASKED)
    assert (found.status, found.value) == (FAIL, "1 of 2 are not installed: no-such-package==9.9")
    assert found.fix.endswith("-m pip install -r requirements.txt`")


@pytest.mark.parametrize("damage", ["gone", "short", "empty metadata"])
def test_a_package_that_is_half_installed_is_named(project, damage):
    if damage == "gone":
        (project / "thing.py").unlink()
    elif damage == "short":
        (project / "thing.py").write_text("x")
    else:
        (project / "thing-1.0.dist-info" / "METADATA").write_text("")
    found = packages.packages(ASKED)
    assert found.status == FAIL
    assert "thing" in found.value


def test_a_certificate_that_others_added_is_no_damage(project, monkeypatch):
    monkeypatch.setattr(packages, "_CHANGED_BY_OTHERS", ("thing.py",))
    (project / "thing.py").write_text("x = 1\ny = 2\n")
    assert packages.packages(ASKED).status == PASS


def test_another_version_is_a_warning(project):
    (project / "requirements.txt").write_text("thing==1.1\n")
    found = packages.packages(ASKED)
    assert (found.status, found.value) == (WARN, "other versions than those tested: thing 1.0 instead of 1.1")


def test_an_optional_part_at_a_wrong_version_or_half_there_is_a_warning(project):
    install(project, "extra", "2.1")
    [found] = packages.parts(ASKED)
    assert found.status == WARN
    assert "extra 2.1 instead of 2.0, more is missing" in found.value
    assert "pip install -r requirements-app.txt" in found.fix


def test_an_optional_part_counts_as_absent_where_only_what_it_needs_in_turn_is_there(project):
    install(project, "more", "3.0")
    [found] = packages.parts(ASKED)
    assert found.status == PASS


def test_another_python_fails(monkeypatch):
    monkeypatch.setattr(packages, "sys", SimpleNamespace(version_info=(3, 12, 1), maxsize=sys.maxsize))
    found = packages.python(ASKED)
    assert (found.status, found.value) == (FAIL, "3.12.1, and the packages are pinned for 3.11")
    assert "python3.11" in found.fix


def test_the_gpu_has_the_same_tensorflow_and_libraries_that_it_asks_for():
    text = (ROOT / "requirements-gpu.txt").read_text()
    pins = packages.read_pins(ROOT / "requirements-gpu.txt")
    version = packages.read_pins(ROOT / "requirements.txt")["tensorflow"]
    assert f"\ntensorflow[and-cuda]=={version}\n" in text
    wanted = [Requirement(line) for line in metadata.requires("tensorflow") if "and-cuda" in line]
    assert {each.name for each in wanted} | {"tensorflow"} == set(pins)
    assert [each.name for each in wanted if not each.specifier.contains(pins[each.name])] == []
