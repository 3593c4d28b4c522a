"""Downloading weights, against a server on this machine and a stand-in for the Hugging Face hub."""

import hashlib
import logging
import re
import socket
from dataclasses import replace

import h5py
import huggingface_hub
import numpy as np
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.numpy import save

from bach_keras.network.fetch import Source, fetch_weights
from bach_keras.network.published import PUBLISHED, published_as
from datasets.errors import UserError, WorkError
from tests.file_server import serving
from tests.network.layout_files import tiatoolbox, write
from tests.network.small_network import draw_tensors, network

TENSORS = draw_tensors()
CONTENT = save(TENSORS)
NAME = f"net-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"
COMMIT = "0123456789" * 4


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving(CONTENT) as running:
        yield running


REPOSITORIES = [name for name, each in PUBLISHED.items() if each.revision and each.digits]


def fetch(to, source, overwrite=False, **options):
    return fetch_weights(to, Source(source, **options), model=network(), overwrite=overwrite)


def assert_converted(path, origin):
    with h5py.File(path) as file:
        assert file.attrs["origin"] == origin
        assert set(file) == set(TENSORS)
        np.testing.assert_array_equal(file["conv1.weight"], TENSORS["conv1.weight"])


def test_weights_are_fetched_converted_and_nothing_else_is_left(server, tmp_path):
    to = tmp_path / "new" / "w.h5"
    assert fetch(to, server.url(NAME)) == to
    assert_converted(to, server.url(NAME))
    assert list(to.parent.iterdir()) == [to]
    assert server.ranges == [None]


def test_a_download_that_was_interrupted_is_resumed(server, tmp_path):
    to = tmp_path / "w.h5"
    server.stops_after = 1000
    with pytest.raises(WorkError, match=rf"broke off after 1000 bytes \(of {len(CONTENT)}\): fetch again"):
        fetch(to, server.url(NAME))
    assert not to.exists()
    server.stops_after = None
    fetch(to, server.url(NAME))
    assert server.ranges == [None, "bytes=1000-"]
    assert_converted(to, server.url(NAME))


def test_no_bar_is_drawn_where_stderr_is_not_a_terminal(server, tmp_path, capsys):
    fetch(tmp_path / "w.h5", server.url(NAME))
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("part", [b"", b"x" * 1000, b"x" * 2 * len(CONTENT)], ids=["none", "short", "long"])
def test_a_file_with_other_digits_than_its_name_is_removed(server, tmp_path, part):
    name = NAME if part else "net-00000000.pth"
    (tmp_path / f"{name}.part").write_bytes(part)
    with pytest.raises(UserError, match="is not the published file: its SHA-256 begins"):
        fetch(tmp_path / "w.h5", server.url(name))
    assert list(tmp_path.iterdir()) == []


def test_a_verified_file_that_is_not_a_checkpoint_keeps_its_own_name(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    content = b"<!doctype html>"
    name = f"net-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    with serving(content) as server, pytest.raises(UserError, match="is not a file of weights"):
        fetch(tmp_path / "w.h5", server.url(name))
    assert [path.name for path in tmp_path.iterdir()] == [f"{name}.part"]


def test_a_server_that_cannot_be_reached_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/{NAME}"
        with pytest.raises(ConnectionError, match=r"could not be reached .*`weights port`\.$"):
            fetch(tmp_path / "w.h5", url)


@pytest.mark.parametrize("host", ["[", "\u00e4\u00e4", "", "a b", "127.0.0.1:abc"])
def test_a_malformed_url_is_refused(tmp_path, host):
    with pytest.raises((UserError, ConnectionError), match=r"could not be|can(not)? be fetched"):
        fetch(tmp_path / "w.h5", f"http://{host}/\u00e4-00000000.pth")


def test_what_cannot_be_fetched_is_refused_before_the_server_is_asked(server, tmp_path):
    (tmp_path / "w.h5").write_text("mine")
    with pytest.raises(UserError, match="already exists"):
        fetch(tmp_path / "w.h5", server.url(NAME))
    with pytest.raises(UserError, match=r"must end in .h5"):
        fetch(tmp_path / "w.pth", server.url(NAME))
    with pytest.raises(UserError, match="cannot be verified"):
        fetch(tmp_path / "new.h5", server.url("net.pth"))
    with pytest.raises(UserError, match="There is no source 'torchvison': name one of torchvision"):
        fetch(tmp_path / "new.h5", "torchvison")
    assert server.ranges == []


def test_every_published_url_carries_its_digits_or_has_a_page_that_shows_them():
    for each in PUBLISHED.values():
        is_url = each.place.startswith("https://")
        assert is_url or each.place == each.name or each.digits
        assert not is_url or bool(each.digits) != bool(each.page)
        assert not is_url or each.page or each.place.endswith(f"-{each.digits}.pth")
        assert re.fullmatch("[0-9a-f]{8}|[0-9a-f]{64}|", each.digits)
        assert re.fullmatch("[0-9a-f]{40}|", each.revision)
        if each.digits:
            assert published_as(each.digits.ljust(64, "0")) == each
    assert published_as("0" * 64) is None


def test_what_nobody_publishes_a_digest_of_needs_one_from_the_user(server, tmp_path, monkeypatch):
    with pytest.raises(
        UserError, match=r"give the SHA-256 of the file with --sha256; its page, https://huggingface\.co/"
    ) as refused:
        fetch(tmp_path / "w.h5", "kather100k")
    other = "1aurent/resnext50_32x4d.tiatoolbox-kather100k"
    assert str(refused.value).endswith(f"the same weights with --which {other}, of which the commit is known.")
    assert PUBLISHED[other].trained_on == PUBLISHED["kather100k"].trained_on
    assert PUBLISHED[other].revision
    url, right = server.url("net.pth"), hashlib.sha256(CONTENT).hexdigest()
    with pytest.raises(UserError, match="is not the published file"):
        fetch(tmp_path / "w.h5", url, sha256="0" * 64)
    with pytest.raises(UserError, match="--sha256 abc is not a SHA-256"):
        fetch(tmp_path / "w.h5", url, sha256="abc")
    with pytest.raises(UserError, match="--sha256 begins 00000000, and the file that is published 7cdf4587"):
        fetch(tmp_path / "w.h5", "torchvision", sha256="0" * 64)
    fetch(tmp_path / "w.h5", url, sha256=right.upper())
    assert_converted(tmp_path / "w.h5", url)


def test_what_is_for_tissue_has_a_place_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    for name in ("kather100k", "pcam"):
        assert Source(name).default_path == tmp_path / "models" / "resnext50_histology.h5"
    for name in ("torchvision", "semi-supervised", "timm/resnext50_32x4d.a1h_in1k", "http://x/y-00000000.pth"):
        assert Source(name).default_path == tmp_path / "models" / "resnext50_imagenet.h5"


def test_weights_for_tissue_come_with_their_normalisation_and_licence(monkeypatch, tmp_path):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    path = write(tmp_path / "tia.pth", tiatoolbox())
    with serving(path.read_bytes()) as server:
        monkeypatch.setitem(PUBLISHED, "kather100k", replace(PUBLISHED["kather100k"], place=server.url("k.pth")))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        to = fetch_weights(tmp_path / "w.h5", Source("kather100k", sha256=digest), model=network(include_top=False))
    with h5py.File(to) as file:
        assert (file.attrs["normalisation"], file.attrs["licence"]) == ("unit", "CC BY 4.0")


@pytest.mark.parametrize(
    ("repository", "normalisation", "licence"),
    [
        ("timm/resnext50_32x4d.fb_swsl_ig1b_ft_in1k", "imagenet", "CC BY-NC 4.0, not for commercial use"),
        ("1aurent/resnext50_32x4d.tiatoolbox-kather100k", "unit", "CC BY 4.0"),
        ("timm/some", "imagenet", None),
    ],
)
def test_where_no_digest_is_known_the_place_says_what_the_weights_are(
    hub, tmp_path, caplog, repository, normalisation, licence
):
    caplog.set_level(logging.INFO)
    fetch(tmp_path / "w.h5", repository, revision=COMMIT)
    with h5py.File(tmp_path / "w.h5") as file:
        assert (file.attrs["normalisation"], file.attrs.get("licence")) == (normalisation, licence)
    assert any("no SHA-256" in line and hashlib.sha256(CONTENT).hexdigest() in line for line in caplog.messages)


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


def test_a_repository_is_fetched_at_a_commit(hub, tmp_path):
    fetch(tmp_path / "w.h5", "timm/some", revision=COMMIT)
    assert hub == [("timm/some", "model.safetensors", COMMIT)]
    assert_converted(tmp_path / "w.h5", f"timm/some@{COMMIT}")


@pytest.mark.parametrize("repository", REPOSITORIES)
def test_a_repository_at_its_pinned_commit_is_verified(hub, tmp_path, repository):
    with pytest.raises(UserError, match=f"{PUBLISHED[repository].place} is not the published file"):
        fetch(tmp_path / "w.h5", repository)
    published = PUBLISHED[repository]
    assert hub == [(published.place, "model.safetensors", published.revision)]
    assert not (tmp_path / "w.h5").exists()


@pytest.mark.parametrize("revision", [None, "main", COMMIT[:7]])
def test_a_repository_without_a_commit_is_refused(hub, tmp_path, revision):
    with pytest.raises(UserError, match="timm/some needs a revision of 40 hexadecimal digits"):
        fetch(tmp_path / "w.h5", "timm/some", revision=revision)
    assert hub == []


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (
            LocalEntryNotFoundError("Cannot find it.\nA second line."),
            ConnectionError,
            r"\(Cannot find it\): try",
        ),
        (OSError(28, "No space left on device"), WorkError, "No space left on device"),
    ],
)
def test_an_error_of_the_hub_is_one_sentence(monkeypatch, tmp_path, error, kind, words):
    def download(*_, **__):
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(kind, match=words):
        fetch(tmp_path / "w.h5", "timm/some", revision=COMMIT)
