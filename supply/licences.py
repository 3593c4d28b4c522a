"""Write docs/licences.md: the licence of each package that make installs, as the package itself states it.

``make licences`` runs it, in the environment whose packages it reads.
"""

import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from datasets.whole import whole
from supply.pins import ROOT, Pin, files, normalised, read

PAGE = ROOT / "docs" / "licences.md"
# What make installs apart, or where there is a GPU only.
NOT_LISTED = ("requirements-gpu.txt", "requirements-supply.txt")

# What packages call a licence -> its SPDX name.
SPDX = {
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd 3-clause": "BSD-3-Clause",
    "3-clause bsd license": "BSD-3-Clause",
    "isc license": "ISC",
    "mit license": "MIT",
    "python software foundation license": "PSF-2.0",
    "the unlicense": "Unlicense",
    "mozilla public license 2.0": "MPL-2.0",
    "eclipse public license 2.0": "EPL-2.0",
    **{
        f"gnu {words}general public license {version}{later}": f"{name}-{version[1:]}.0{ending}"
        for words, name in (("", "GPL"), ("affero ", "AGPL"), ("lesser ", "LGPL"))
        for version in ("v2", "v3")
        for later, ending in (("", "-only"), (" or later", "-or-later"))
    },
}
_SPDX_LIKE = re.compile(r"[A-Za-z0-9.+()-]+( (AND|OR|WITH) [A-Za-z0-9.+()-]+)*")
# First words of a licence's text, where a package gives the text for its name.
_TEXTS = {
    "apache license": "Apache-2.0",
    "mit license": "MIT",
    "bsd 3-clause license": "BSD-3-Clause",
}
# What packages state in no field, read from the files that they hold.
_BY_HAND = {
    "astunparse": "BSD-3-Clause",  # LICENSE: three clauses
    "contourpy": "BSD-3-Clause",
    "cycler": "BSD-3-Clause",
    "jinja2": "BSD-3-Clause",
    "kiwisolver": "BSD-3-Clause",
    "matplotlib": "LicenseRef-Matplotlib",  # its own, made from Python's (PSF)
    "namex": "Apache-2.0",
    "pysocks": "BSD-3-Clause",
    "scipy": "BSD-3-Clause",
    "semantic-version": "BSD-2-Clause",
}
_LICENCE_FILE = re.compile(r"(licen[cs]e|copying|notice|copyright)[^/]*$", re.I)
# The title of such a text; others mention it in passing.
_GNU = re.compile(
    r"^\W*GNU\s+(AFFERO\s|LESSER\s|LIBRARY\s)?\s*GENERAL PUBLIC LICENSE\W+Version ([0-9](?:\.[0-9])?)", re.I | re.M
)
_GNU_NAMES = {"": "GPL", "affero": "AGPL", "lesser": "LGPL", "library": "LGPL"}
_EXCEPTION = re.compile(r"GCC\s+RUNTIME\s+LIBRARY\s+EXCEPTION|with-GCC-exception", re.I)

# These ask only to be passed on with the package.
PERMISSIVE = frozenset((
    "0BSD", "Apache-2.0", "blessing", "BSD-1-Clause", "BSD-2-Clause", "BSD-3-Clause", "BSD-4.3TAHOE", "CC0-1.0",
    "CNRI-Python", "IJG", "ISC", "libpng-2.0", "libtiff", "LicenseRef-Matplotlib", "LicenseRef-Public-Domain", "MIT",
    "MIT-CMU", "PSF-2.0", "Unlicense", "Zlib",
))  # fmt: skip
# What others ask of those who pass a package on, the most at the end.
WEAK, STRONG, UNKNOWN = (
    "are weak copyleft (LGPL, MPL, EPL)", "are strong copyleft (GPL, AGPL)", "are under another licence",
)  # fmt: skip
FAMILIES = (
    (WEAK, re.compile(r"(LGPL|MPL|EPL)-[0-9]")),
    (STRONG, re.compile(r"A?GPL-[0-9]")),
    (UNKNOWN, re.compile("")),
)

HEAD = """# Licences of the packages

Made by `make licences` from what each installed package states of itself: an SPDX expression where it gives one, else
the field or the classifier, brought to its SPDX name. The last column names the GNU licences whose text is among the
files of a package. This project itself is under Apache-2.0. What `requirements-bench.txt` adds for benchmarks, and the
tools of `requirements-supply.txt`, do not run here and are not listed. NVIDIA's libraries, which a GPU needs, are under
NVIDIA's own licence, which restricts how they may be used and passed on. Data and weights have licences of their own,
which restrict use as well: [data.md](data.md), [weights.md](weights.md).

"""
NOTES = """
None of them restricts what the packages may be used for. Whoever passes them on, in a container image for example,
passes these libraries on too, and their terms apply:

- numpy and scipy carry libgfortran and libquadmath, and scikit-learn and imagecodecs libgomp: GPL-3 with the GCC
  exception, which leaves programs that use them free.
- opencv-python-headless carries FFmpeg, shapely GEOS, and openslide-bin OpenSlide and others: LGPL-2.1, as shared
  libraries that can be replaced. setuptools carries autocommand, LGPL-3.
- tensorflow holds the text of GPL-2 with a script of LLVM's build, and with DUCC's FFT, which is also offered under
  BSD-3-Clause.
"""


def licence_of(found: Distribution) -> str:
    """Return the licence that a package states, by its SPDX name where it has one; ``?`` where it states none."""
    key = normalised(found.metadata["Name"])
    expression = found.metadata.get("License-Expression")
    text = " ".join((found.metadata.get("License") or "").split())
    classifiers = [
        line.rpartition(" :: ")[2] for line in found.metadata.get_all("Classifier") or () if "License ::" in line
    ]
    if expression:
        return expression
    if key in _BY_HAND:
        return _BY_HAND[key]
    if named := SPDX.get(text.lower()):
        return named
    for words, name in _TEXTS.items():
        if text.lower().startswith(words):
            return name
    if text and text != "BSD" and _SPDX_LIKE.fullmatch(text):
        return text
    names = {SPDX.get(re.sub(r"\s*\(.*", "", each).lower(), each) for each in classifiers}
    # Classifiers do not say whether there is a choice.
    return " AND ".join(sorted(names)) or text[:60] or "?"


def carried(found: Distribution) -> str:
    """Return the GNU licences whose text is among a package's files of licences."""
    names = set()
    for path in found.files or ():
        if _LICENCE_FILE.search(str(path)) and path.suffix not in (".py", ".pyc", ".h", ".so"):
            text = path.locate().read_text(errors="replace")
            for kind, version in _GNU.findall(text):
                name = f"{_GNU_NAMES[kind.strip().lower()]}-{version}"
                names.add(name + (" (GCC exception)" if name == "GPL-3" and _EXCEPTION.search(text) else ""))
    return ", ".join(sorted(names))


def family(licence: str) -> str | None:
    """Return what a licence asks, as FAMILIES words it; None of a permissive one. Of a choice the least is taken."""
    if " AND " in licence and " OR " in re.sub(r"\([^()]*\)", "", licence):
        return UNKNOWN  # it would have to be read by precedence
    choices = [part.strip("()").split(" OR ") for part in licence.split(" AND ")]
    asked = max(min(map(_rank, choice)) for choice in choices)
    return FAMILIES[asked - 1][0] if asked else None


def _rank(name: str) -> int:
    """Return 0 for a permissive licence, else the place of its family, from 1 on."""
    if name in PERMISSIVE:
        return 0
    return next(place for place, (_, pattern) in enumerate(FAMILIES, 1) if pattern.match(name))


def row(pin: Pin) -> tuple[str, str, str, str]:
    """Return a package's name, version, licence and carried licences; refuses a version that is not the pinned one."""
    try:
        found = distribution(pin.name)
    except PackageNotFoundError:
        raise SystemExit(f"{pin} is not installed: run `make licences`, which installs it.") from None
    if found.version != pin.version:
        raise SystemExit(f"{pin.name} {found.version} is installed and {pin.version} is pinned: run `make licences`.")
    return pin.name, pin.version, licence_of(found), carried(found)


def page() -> str:
    """Return the page: what the licences ask, and a table for each file of requirements; refuses what NOTES lacks."""
    tables = {path.name: [row(pin) for pin in read(path).pins] for path in files() if path.name not in NOT_LISTED}
    rows = [each for table in tables.values() for each in table]
    asked = {words: sorted(name for name, _, licence, _ in rows if family(licence) == words) for words, _ in FAMILIES}
    lines = [
        f"- {len(names) or 'none'} {words}{': ' if names else ''}{', '.join(names)}" for words, names in asked.items()
    ]
    if beyond := asked[STRONG] + asked[UNKNOWN]:
        raise SystemExit(
            f"The licence of {', '.join(beyond)} is not one that the page's notes cover: read it, then mend NOTES and "
            "PERMISSIVE."
        )
    parts = [HEAD + f"Of {len(rows)} packages:\n\n" + "\n".join(lines) + "\n" + NOTES]
    for name, table in sorted(tables.items(), key=lambda item: (len(item[0]), item[0])):
        parts.append(f"\n## {name}\n\n| package | version | licence | carries |\n|---|---|---|---|\n")
        parts += [f"| {' | '.join(each)} |\n" for each in sorted(table, key=lambda each: each[0].lower())]
    return "".join(parts)


if __name__ == "__main__":
    with whole(PAGE) as partial:
        partial.write_text(page())
    print(f"wrote {PAGE.relative_to(ROOT)}")
