"""Write build/sbom.json, a CycloneDX bill of materials of an environment: ``python -m supply.bill PYTHON``.

``make sbom`` runs it, in an environment with cyclonedx-bom.
"""

import subprocess
import sys
import tomllib
from pathlib import Path

from supply.pins import ROOT, direct, files

BILL = ROOT / "build" / "sbom.json"
# Left out of what the project needs: these are installed apart.
TOOLS = "requirements-supply.txt"


def described() -> str:
    """Return the project as a pyproject.toml that names the packages it needs, to which the bill draws its lines.

    The project's own names none, as requirements*.txt do.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = sorted({str(pin) for path in files() if path.name != TOOLS for pin in direct(path)})
    fields = [
        f'{name} = "{project[name]}"' for name in ("name", "version", "description", "license", "requires-python")
    ]
    return "\n".join(["[project]", *fields, f"dependencies = {needed}", ""])


def main(python: Path) -> None:
    BILL.parent.mkdir(exist_ok=True)
    project = BILL.with_name("pyproject.toml")
    project.write_text(described())
    asked = ["environment", "--pyproject", str(project), "--output-reproducible", "--of", "JSON", "-o", str(BILL)]
    subprocess.run([sys.executable, "-m", "cyclonedx_py", *asked, str(python)], check=True)
    print(f"wrote {BILL.relative_to(ROOT)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
