"""A published archive: consent is the caller's, the digest is ours."""

import hashlib
import logging
import os

import pytest

from datasets.bach_bisque.archive import bytes_to_fetch, check_digest, fetch
from datasets.catalogue import BACH, Archive
from datasets.errors import UserError, WorkError

CONTENT = bytes(range(256)) * 64


@pytest.fixture
def server(serve):
    return serve(CONTENT)


@pytest.fixture
def published(server):
    """CONTENT as a published archive, whose page rounds its size."""
    return Archive(
        "set.zip",
        server.url("set.zip"),
        hashlib.md5(CONTENT).hexdigest(),
        range(16_000, 17_000),
        "CC OF-TEST 4.0",
        "A. Tester, 2018",
    )


def test_the_official_archive_is_the_one_of_the_record():
    assert BACH.archive.url == f"https://zenodo.org/records/3632035/files/{BACH.archive.name}"
    assert BACH.archive.md5 == "8ae1801334aa943c44627c1eef3631b2"
    assert [size / 1e9 for size in (BACH.archive.sizes.start, BACH.archive.sizes.stop)] == [10.35, 10.45]
    assert "CC BY-NC-ND 4.0" in BACH.archive.licence
    assert "Aresta" in BACH.archive.citation


class Asked(logging.Handler):
    """Notes each line of the log with how often the server had been asked by then."""

    def __init__(self, server):
        super().__init__()
        self.server, self.lines = server, []

    def emit(self, record):
        self.lines.append((len(self.server.ranges), record.getMessage()))


def test_licence_and_citation_are_shown_before_the_first_byte_is_asked_for(published, server, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    asked = Asked(server)
    logging.getLogger("datasets").addHandler(asked)
    path = fetch(published, tmp_path / "manual")
    logging.getLogger("datasets").removeHandler(asked)
    assert path == tmp_path / "manual" / "set.zip"
    assert path.read_bytes() == CONTENT
    for shown in ("CC OF-TEST 4.0", "A. Tester, 2018"):
        assert [count for count, line in asked.lines if shown in line] == [0]


def test_no_bar_is_drawn_where_stderr_is_not_a_terminal(published, tmp_path, capsys):
    fetch(published, tmp_path)
    assert capsys.readouterr() == ("", "")


def test_an_interrupted_download_is_not_an_archive_and_the_next_call_resumes_it(published, server, tmp_path):
    assert bytes_to_fetch(published, tmp_path) == 17_000
    server.stops_after = 1000
    with pytest.raises(WorkError, match="broke off after 1000 bytes"):
        fetch(published, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["set.zip.part"]
    assert bytes_to_fetch(published, tmp_path) == 16_000
    server.stops_after = None
    assert fetch(published, tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=1000-"]


def test_what_has_another_digest_is_removed_so_that_the_next_call_starts_again(published, server, tmp_path):
    server.content = CONTENT[::-1]
    with pytest.raises(WorkError, match=r"is not the published file: its MD5 is .* It was removed: fetch it again\.$"):
        fetch(published, tmp_path)
    assert list(tmp_path.iterdir()) == []
    server.content = CONTENT
    assert fetch(published, tmp_path).read_bytes() == CONTENT


def change_unnoticed(path):
    """Change a file's content, but not its size and time."""
    before = path.stat()
    path.write_bytes(CONTENT[::-1])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_digest_is_computed_once_as_long_as_the_file_is_not_touched(published, tmp_path):
    path = tmp_path / "set.zip"
    path.write_bytes(CONTENT)
    check_digest(published, path)
    change_unnoticed(path)
    check_digest(published, path)
    os.utime(path, (1, 1))
    with pytest.raises(UserError, match="is damaged"):
        check_digest(published, path)


def test_what_was_fetched_is_not_hashed_a_second_time(published, tmp_path):
    path = fetch(published, tmp_path)
    change_unnoticed(path)
    check_digest(published, path)


def test_a_damaged_archive_of_the_official_name_and_size_is_refused(published, tmp_path):
    path = tmp_path / "set.zip"
    path.write_bytes(CONTENT[:5000] + b"?" + CONTENT[5001:])
    for _ in range(2):
        with pytest.raises(UserError, match=r"set\.zip is damaged: its MD5 is .* not the published .* another name\.$"):
            check_digest(published, path)


@pytest.mark.parametrize(("name", "size"), [("my.zip", 16_384), ("set.zip", 15_999), ("set.zip", 17_000)])
def test_a_zip_that_the_user_made_is_let_through(published, tmp_path, caplog, name, size):
    path = tmp_path / name
    path.write_bytes(b"x" * size)
    check_digest(published, path)
    line = (
        f"{path} does not have the size of the published file, so its MD5 was not checked: its images are, one by one."
    )
    assert caplog.messages == ([line] if name == published.name else [])
    assert list(tmp_path.iterdir()) == [path]
