"""The official archive: consent is the caller's, the digest is ours."""

import hashlib
import os

import pytest

from datasets.bach_bisque.archive import BACH_ARCHIVE, Archive, bytes_to_fetch, check_digest, fetch

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
    assert BACH_ARCHIVE.url == f"https://zenodo.org/records/3632035/files/{BACH_ARCHIVE.name}"
    assert BACH_ARCHIVE.md5 == "8ae1801334aa943c44627c1eef3631b2"
    assert [size / 1e9 for size in (BACH_ARCHIVE.sizes.start, BACH_ARCHIVE.sizes.stop)] == [10.35, 10.45]
    assert "CC BY-NC-ND 4.0" in BACH_ARCHIVE.licence
    assert "Aresta" in BACH_ARCHIVE.citation


def test_licence_and_citation_are_shown_before_the_first_byte_is_asked_for(published, server, tmp_path):
    told = []

    def say(line):
        assert server.ranges == []
        told.append(line)

    path = fetch(published, tmp_path / "manual", say)
    assert path == tmp_path / "manual" / "set.zip"
    assert path.read_bytes() == CONTENT
    assert any("CC OF-TEST 4.0" in line for line in told)
    assert any("A. Tester, 2018" in line for line in told)


def test_progress_goes_to_stderr(published, tmp_path, capsys):
    fetch(published, tmp_path, lambda line: None)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "set.zip: 100%" in captured.err


def test_a_cut_download_is_no_archive_and_the_next_call_goes_on(published, server, tmp_path):
    assert bytes_to_fetch(published, tmp_path) == 17_000
    server.stops_after = 1000
    with pytest.raises(ConnectionError, match="broke off after 1000 bytes"):
        fetch(published, tmp_path, lambda line: None)
    assert [path.name for path in tmp_path.iterdir()] == ["set.zip.part"]
    assert bytes_to_fetch(published, tmp_path) == 16_000
    server.stops_after = None
    assert fetch(published, tmp_path, lambda line: None).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=1000-"]


def test_what_has_another_digest_is_removed_so_that_the_next_call_begins_anew(published, server, tmp_path):
    server.content = CONTENT[::-1]
    with pytest.raises(ValueError, match=r"is not the published file: its MD5 is .* It was removed: fetch it again\.$"):
        fetch(published, tmp_path, lambda line: None)
    assert list(tmp_path.iterdir()) == []
    server.content = CONTENT
    assert fetch(published, tmp_path, lambda line: None).read_bytes() == CONTENT


@pytest.fixture
def hashed(monkeypatch):
    """List the files whose digest was computed."""
    from datasets.bach_bisque import archive

    names, compute = [], archive._md5

    def listed(path):
        names.append(path.name)
        return compute(path)

    monkeypatch.setattr(archive, "_md5", listed)
    return names


def test_a_digest_is_computed_once_as_long_as_the_file_is_not_touched(published, tmp_path, hashed):
    path = tmp_path / "set.zip"
    path.write_bytes(CONTENT)
    check_digest(published, path, say=None)
    check_digest(published, path, say=None)
    assert hashed == ["set.zip"]
    os.utime(path, (1, 1))
    check_digest(published, path, say=None)
    assert hashed == ["set.zip"] * 2


def test_what_was_fetched_is_not_hashed_a_second_time(published, tmp_path, hashed):
    check_digest(published, fetch(published, tmp_path, lambda line: None), say=None)
    assert hashed == ["set.zip.part"]


def test_a_damaged_archive_of_the_official_name_and_size_is_refused(published, tmp_path):
    path = tmp_path / "set.zip"
    path.write_bytes(CONTENT[:5000] + b"?" + CONTENT[5001:])
    for _ in range(2):
        with pytest.raises(
            ValueError, match=r"set\.zip is damaged: its MD5 is .* not the published .* another name\.$"
        ):
            check_digest(published, path, say=None)


@pytest.mark.parametrize(("name", "size"), [("my.zip", 16_384), ("set.zip", 15_999), ("set.zip", 17_000)])
def test_a_zip_that_the_user_made_is_let_through(published, tmp_path, hashed, name, size):
    path = tmp_path / name
    path.write_bytes(b"x" * size)
    said = []
    check_digest(published, path, said.append)
    assert hashed == []
    line = f"{path} has not the size of the published file, so its MD5 was not checked: its images are, one by one."
    assert said == ([line] if name == published.name else [])
    assert list(tmp_path.iterdir()) == [path]
