import sys

import pytest

from bach_keras.serving.slide.packages import check_packages
from datasets.errors import UserError


def test_a_package_that_is_missing_is_named_with_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(UserError, match=r"^tifffile is not installed.*pip install -r requirements-slides\.txt$"):
        check_packages(has_regions=False)


def test_shapely_is_needed_for_regions_alone(monkeypatch):
    monkeypatch.setitem(sys.modules, "shapely", None)
    check_packages(has_regions=False)
    with pytest.raises(UserError, match="shapely is not installed"):
        check_packages(has_regions=True)


def test_what_does_not_need_these_packages_does_not_import_them():
    """The page, the GeoJSON and the shares are written without them."""
    import subprocess

    rooms = ("geojson", "shares", "page", "maps", "regions", "agreement")
    imports = "; ".join(f"import bach_keras.serving.slide.{room}" for room in rooms)
    script = f"import sys; {imports}; print(*{{'tifffile', 'shapely', 'matplotlib', 'tensorflow'}} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""
