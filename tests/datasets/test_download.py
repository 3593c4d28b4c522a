"""Fetching a file, against a server on this machine."""

import os
import shutil
import socket

import pytest

from datasets.download import check_free, download
from datasets.errors import UserError, WorkError

CONTENT = bytes(range(256)) * 64


@pytest.fixture
def server(serve):
    return serve(CONTENT)


def fetch(server, part, name="file", progress=None):
    download(server.url(name), part, progress, otherwise="or ask a friend")


def test_a_file_is_fetched_with_progress(server, tmp_path):
    calls = []
    fetch(server, tmp_path / "part", progress=lambda *numbers: calls.append(numbers))
    assert (tmp_path / "part").read_bytes() == CONTENT
    assert calls[-1] == (len(CONTENT), len(CONTENT))


def test_an_interrupted_download_is_resumed_where_it_stopped(server, tmp_path):
    part = tmp_path / "part"
    server.stops_after = 1000
    with pytest.raises(WorkError, match=r"broke off after 1000 bytes \(of 16384\): fetch again"):
        fetch(server, part)
    assert part.read_bytes() == CONTENT[:1000]
    server.stops_after = None
    fetch(server, part)
    assert server.ranges == [None, "bytes=1000-"]
    assert part.read_bytes() == CONTENT


def test_a_server_that_ignores_ranges_sends_the_file_from_its_beginning(server, tmp_path):
    part = tmp_path / "part"
    part.write_bytes(b"x" * 1000)
    server.knows_ranges = False
    fetch(server, part)
    assert server.ranges == ["bytes=1000-"]
    assert part.read_bytes() == CONTENT


def test_a_part_that_is_complete_is_left_as_it_is(server, tmp_path):
    part = tmp_path / "part"
    part.write_bytes(CONTENT)
    fetch(server, part)
    assert part.read_bytes() == CONTENT


def test_a_file_that_the_server_does_not_have(server, tmp_path):
    with pytest.raises(ConnectionError, match="the server answered 404 Not Found"):
        fetch(server, tmp_path / "part", "absent-file")
    assert not (tmp_path / "part").exists()


def test_no_network_names_another_way(monkeypatch, tmp_path):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/file"
        with pytest.raises(ConnectionError, match=r"could not be reached .*: try again, or ask a friend\.$"):
            download(url, tmp_path / "part", otherwise="or ask a friend")


def test_a_full_disk_is_refused_and_a_folder_need_not_exist(monkeypatch, tmp_path):
    folder = tmp_path / "not" / "yet"
    asked = []

    def usage(place):
        asked.append(place)
        return shutil._ntuple_diskusage(10, 5, 2_000_000_000)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    check_free(folder, 2_000_000_000)
    with pytest.raises(OSError, match=r"yet needs 3.5 GB and its disk has 2.0 GB free: make room"):
        check_free(folder, 3_500_000_000)
    assert asked == [tmp_path, tmp_path]
    assert not folder.exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_disk_that_becomes_full_is_reported_with_the_path_and_not_called_a_broken_connection(server, tmp_path):
    (tmp_path / "part").symlink_to("/dev/full")
    with pytest.raises(WorkError, match=r"part cannot be written \(No space left on device\): make room"):
        fetch(server, tmp_path / "part")


def test_a_place_that_cannot_be_written_to_starts_nothing(server, tmp_path):
    with pytest.raises(OSError, match=r"folder/part cannot be written: No such file or directory\.$"):
        fetch(server, tmp_path / "folder" / "part")


@pytest.mark.parametrize("url", ["http://[::1/file", "file.zip", "http://a b/file", "http://127.0.0.1:abc/file"])
def test_what_is_not_a_url_is_refused(url, tmp_path):
    with pytest.raises(UserError, match="is not a URL that can be fetched"):
        download(url, tmp_path / "part", otherwise="or ask a friend")
