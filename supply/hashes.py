"""Write the twins of requirements*.txt: each pin with the SHA-256 of every file that the index has of it.

``make hashes`` runs it, in an environment with uv. The digests are those of all platforms.
"""

import subprocess
import sys
from pathlib import Path

from datasets.whole import whole
from supply.pins import HASHED, ROOT, Pin, files, normalised, parse, read

# What builds packages that come as source alone. pip would fetch these unseen, so they are installed first.
BUILDERS = ("packaging", "setuptools", "wheel")
BUILD_FILE = HASHED / "build.txt"
_MADE_BY = "# Made by `make hashes` from {}: the SHA-256 of each file of a package.\n"


def digests_of(path: Path) -> dict[str, tuple[str, ...]]:
    """Return package -> the SHA-256 of each of its files, as uv reads them from the index."""
    asked = "--quiet --no-deps --no-config --no-header --no-annotate --generate-hashes --python-version 3.11"
    command = [sys.executable, "-m", "uv", "pip", "compile", *asked.split(), str(path)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise SystemExit(f"uv cannot resolve {path.name}: {answer.stderr.strip()}")
    return {pin.key: pin.digests for pin in parse(answer.stdout, path).pins}


def written(pins: list[Pin], digests: dict[str, tuple[str, ...]]) -> str:
    """Return pins with their digests as pip reads them."""
    lines = [" \\\n".join([str(pin), *(f"    --hash=sha256:{digest}" for digest in digests[pin.key])]) for pin in pins]
    return "\n".join(lines) + "\n"


def main() -> None:
    twins, main_file = {}, ROOT / "requirements.txt"
    for path in files():
        requirements, digests = read(path), digests_of(path)
        includes = "".join(f"-r {name}\n" for name in requirements.includes)
        twins[HASHED / path.name] = _MADE_BY.format(path.name) + includes + written(list(requirements.pins), digests)
        if path == main_file:
            builders = [pin for pin in requirements.pins if normalised(pin.name) in BUILDERS]
            twins[BUILD_FILE] = _MADE_BY.format(path.name) + written(builders, digests)
        print(f"{path.name}: {len(requirements.pins)} packages")
    # Only once uv has resolved all of them, so that they belong together.
    HASHED.mkdir(exist_ok=True)
    for path, text in twins.items():
        with whole(path) as partial:
            partial.write_text(text)


if __name__ == "__main__":
    main()
