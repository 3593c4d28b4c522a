"""The page of licences names every package that make installs, and what each licence asks."""

import pytest

from supply.licences import NOT_LISTED, PAGE, STRONG, UNKNOWN, WEAK, family, licence_of
from supply.pins import files, read


def test_every_pinned_package_is_on_the_page_with_its_version():
    page = PAGE.read_text()
    pins = [pin for path in files() if path.name not in NOT_LISTED for pin in read(path).pins]
    assert [str(pin) for pin in pins if f"| {pin.name} | {pin.version} |" not in page] == []
    assert page.count("\n| ") - page.count("\n| package |") == len(pins)


@pytest.mark.parametrize(
    ("licence", "words"),
    [
        ("MIT", None),
        ("MIT OR GPL-2.0-only", None),
        ("LGPL-2.1-only OR GPL-2.0-only", WEAK),
        ("MIT AND LGPL-2.1-only OR MIT", UNKNOWN),
        ("CC-BY-NC-4.0", UNKNOWN),
        ("CC-BY-NC-4.0 OR MIT", None),
        ("Some License", UNKNOWN),
        ("?", UNKNOWN),
        ("BSD-3-Clause AND (BSD-3-Clause OR GPL-2.0-only)", None),
        ("GPL-3.0-or-later", STRONG),
        ("AGPL-3.0-only AND MIT", STRONG),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", WEAK),
        ("LGPL-2.1-only AND MIT", WEAK),
    ],
)
def test_a_licence_is_recognised_by_what_it_asks(licence, words):
    assert family(licence) == words


class Stated:
    """A package that states what it is given, as importlib.metadata gives it."""

    def __init__(self, **fields):
        self.fields = {"Name": "some-package", **fields}

    @property
    def metadata(self):
        return self

    def __getitem__(self, name):
        return self.fields[name]

    def get(self, name):
        return self.fields.get(name)

    def get_all(self, name):
        return self.fields.get(name)


@pytest.mark.parametrize(
    ("fields", "licence"),
    [
        ({"License-Expression": "MIT AND Zlib", "License": "BSD"}, "MIT AND Zlib"),
        ({"License": "Apache License 2.0"}, "Apache-2.0"),
        ({"License": "Apache License\n  Version 2.0, January 2004\n..."}, "Apache-2.0"),
        ({"License": "MIT OR Apache-2.0"}, "MIT OR Apache-2.0"),
        ({"Classifier": ["License :: OSI Approved :: MIT License", "Topic :: x"]}, "MIT"),
        ({"Classifier": ["License :: OSI Approved :: ISC License (ISCL)"]}, "ISC"),
        (
            {"Classifier": ["License :: OSI Approved :: GNU General Public License v3 or later (GPLv3+)"]},
            "GPL-3.0-or-later",
        ),
        (
            {
                "Classifier": [
                    "License :: OSI Approved :: GNU Affero General Public License v3",
                    "License :: x :: MIT License",
                ]
            },
            "AGPL-3.0-only AND MIT",
        ),
        (
            {"Classifier": ["License :: OSI Approved :: GNU Lesser General Public License v2 (LGPLv2)"]},
            "LGPL-2.0-only",
        ),
        ({"Classifier": ["License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)"]}, "MPL-2.0"),
        ({"Name": "PySocks", "License": "BSD"}, "BSD-3-Clause"),
        ({}, "?"),
    ],
)
def test_a_licence_has_its_spdx_name(fields, licence):
    assert licence_of(Stated(**fields)) == licence
