"""The pages: they lead somewhere, all are listed, and no merge was left unfinished in them."""

import re
from pathlib import Path

FOLDERS = ("benchmarks", "deploy", "docs", "saved_models")
PAGES = [
    *sorted(Path().glob("*.md")),
    *(page for folder in FOLDERS for page in sorted(Path(folder).glob("*.md"))),
    *sorted(Path("datasets").rglob("*.md")),
]


def test_no_page_has_the_marks_of_an_unfinished_merge():
    marks = ("<<<<<<< ", ">>>>>>> ")
    assert [page for page in PAGES if any(line.startswith(marks) for line in page.read_text().splitlines())] == []


def test_every_link_to_a_file_leads_to_one():
    broken = []
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for link in re.findall(r"\]\(([^)#\s]+)", text):
            if "://" not in link and not link.startswith("mailto:") and not (page.parent / link).exists():
                broken.append(f"{page}: {link}")
    assert broken == []


def test_the_readme_leads_to_every_page():
    readme = Path("README.md").read_text()
    assert [page for page in sorted(Path("docs").glob("*.md")) if f"({page})" not in readme] == []
