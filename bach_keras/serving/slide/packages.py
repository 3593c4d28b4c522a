"""The packages that `slide` needs beyond what the project does."""

import importlib

from datasets.errors import UserError


def check_packages(has_regions: bool) -> None:
    """Refuse to begin where a package is missing: tifffile writes the maps, shapely reads the regions."""
    for name in ("tifffile", "shapely") if has_regions else ("tifffile",):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise UserError(
                f"{error.name or name} is not installed, which slide needs: pip install -r requirements-slides.txt"
            ) from error
