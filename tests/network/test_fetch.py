"""Downloading weights, against a server on this machine and a stand-in for the Hugging Face hub."""

import hashlib
import re
import socket

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from bach_keras.network import fetch as module
from bach_keras.network.fetch import HUB, URLS, fetch
from datasets.errors import WorkError
from tests.file_server import serving

CONTENT = bytes(range(256)) * 64
NAME = f"net-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"
COMMIT = "0123456789" * 4


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving(CONTENT) as running:
        yield running


@pytest.fixture
def ported(monkeypatch):
    """Replace the porting, which has tests of its own, by a copy; list what it was asked."""
    calls = []

    def copy(source, dest, *, overwrite, origin):
        calls.append((overwrite, origin))
        with open(source, "rb") as file:
            dest.write_bytes(file.read())

    monkeypatch.setattr(module, "port", copy)
    return calls


def test_fetch_verifies_ports_and_leaves_nothing_else(server, ported, tmp_path):
    to = tmp_path / "new" / "w.h5"
    progress = []
    assert fetch(to, server.url(NAME), progress=lambda *numbers: progress.append(numbers)) == to
    assert to.read_bytes() == CONTENT
    assert list(to.parent.iterdir()) == [to]
    assert ported == [(False, server.url(NAME))]
    assert progress[-1] == (len(CONTENT), len(CONTENT))
    assert server.ranges == [None]


def test_a_download_that_was_cut_goes_on_where_it_stopped(server, ported, tmp_path):
    to = tmp_path / "w.h5"
    server.stops_after = 1000
    with pytest.raises(WorkError, match=r"broke off after 1000 bytes \(of 16384\): fetch again"):
        fetch(to, server.url(NAME))
    assert not to.exists()
    server.stops_after = None
    progress = []
    fetch(to, server.url(NAME), progress=lambda *numbers: progress.append(numbers))
    assert server.ranges == [None, "bytes=1000-"]
    assert progress[-1] == (len(CONTENT), len(CONTENT))
    assert to.read_bytes() == CONTENT


@pytest.mark.parametrize("part", [b"", b"x" * 1000, b"x" * 20000])
def test_a_file_that_is_not_what_its_name_says_is_removed(server, ported, tmp_path, part):
    name = NAME if part else "net-00000000.pth"
    (tmp_path / f"{name}.part").write_bytes(part)
    with pytest.raises(ValueError, match="is not the published file: its SHA-256 begins"):
        fetch(tmp_path / "w.h5", server.url(name))
    assert list(tmp_path.iterdir()) == []
    assert ported == []


def test_a_verified_file_that_is_no_checkpoint_is_kept_apart(server, tmp_path):
    with pytest.raises(ValueError, match="is not a file of weights"):
        fetch(tmp_path / "w.h5", server.url(NAME))
    assert [path.name for path in tmp_path.iterdir()] == [f"{NAME}.part"]


def test_no_network(monkeypatch, tmp_path):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/{NAME}"
        with pytest.raises(ConnectionError, match=r"could not be reached .*`weights port`\.$"):
            fetch(tmp_path / "w.h5", url)


def test_refused_before_anything_is_asked(server, tmp_path):
    (tmp_path / "w.h5").write_text("mine")
    with pytest.raises(FileExistsError, match="is there already"):
        fetch(tmp_path / "w.h5", server.url(NAME))
    with pytest.raises(ValueError, match=r"must end in .h5"):
        fetch(tmp_path / "w.pth", server.url(NAME))
    with pytest.raises(ValueError, match="cannot be verified"):
        fetch(tmp_path / "new.h5", server.url("net.pth"))
    with pytest.raises(ValueError, match="There is no source 'torchvison': name one of torchvision"):
        fetch(tmp_path / "new.h5", "torchvison")
    assert server.ranges == []


def test_every_published_url_carries_its_digits():
    for url in URLS.values():
        assert re.fullmatch(r"https://\S+resnext50_32x4\S*-[0-9a-f]{8}\.pth", url)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub that has CONTENT for any repository and commit, and lists what it was asked."""
    asked = []

    def download(repository, filename, revision):
        asked.append((repository, filename, revision))
        path = tmp_path / "cached"
        path.write_bytes(CONTENT)
        return str(path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return asked


def test_hub_at_a_commit(hub, ported, tmp_path):
    fetch(tmp_path / "w.h5", "timm/some", revision=COMMIT)
    assert hub == [("timm/some", "model.safetensors", COMMIT)]
    assert ported == [(False, f"timm/some@{COMMIT}")]
    assert (tmp_path / "w.h5").read_bytes() == CONTENT


@pytest.mark.parametrize("repository", HUB)
def test_hub_at_its_pinned_commit_is_verified(hub, ported, tmp_path, repository):
    with pytest.raises(ValueError, match=f"{repository} is not the published file"):
        fetch(tmp_path / "w.h5", repository)
    assert hub == [(repository, "model.safetensors", HUB[repository][0])]
    assert ported == []


@pytest.mark.parametrize("revision", [None, "main", COMMIT[:7]])
def test_hub_without_a_commit(hub, tmp_path, revision):
    with pytest.raises(ValueError, match="timm/some needs a revision of 40 hexadecimal digits"):
        fetch(tmp_path / "w.h5", "timm/some", revision=revision)
    assert hub == []


def test_hub_out_of_reach(monkeypatch, tmp_path):
    def download(*_, **__):
        raise LocalEntryNotFoundError("Cannot find it.\nA second line.")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(ConnectionError, match=r"could not be fetched \(Cannot find it\): try again"):
        fetch(tmp_path / "w.h5", "timm/some", revision=COMMIT)
