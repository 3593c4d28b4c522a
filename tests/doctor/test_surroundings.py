"""Memory, disk, locale, clock, proxy, ports and variables: each trouble is named with what to do."""

import os
import socket
import subprocess
import sys
import time
from collections import namedtuple
from types import SimpleNamespace

import pytest

from bach_keras.doctor import disk, images, memory, ports, settings
from bach_keras.doctor.finding import FAIL, PASS, WARN, Asked

ASKED = Asked()
Usage = namedtuple("Usage", "total used free")  # as shutil has it


@pytest.fixture
def linux(tmp_path, monkeypatch):
    """Return a function: megabytes free of the machine, and of the container, if any -> as Linux says them."""
    monkeypatch.setattr(memory, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "resource", None)

    def say(free, of_container=None):
        own, cgroup = tmp_path / "proc" / "self", tmp_path / "cgroup" / "job"
        own.mkdir(parents=True)
        cgroup.mkdir(parents=True)
        (own.parent / "meminfo").write_text(f"MemTotal: 99999999 kB\nMemAvailable: {free * 1000**2 // 1024} kB\n")
        (own / "cgroup").write_text("0::/job/inner\n")
        if of_container:
            (cgroup / "memory.max").write_text(f"{of_container * 1000**2}\n")
            (cgroup / "memory.current").write_text("3000000\n")
            (cgroup / "memory.stat").write_text("anon 5\ninactive_file 3000000\n")

    return say


@pytest.mark.parametrize(("free", "status"), [(20_000, PASS), (2500, WARN), (500, FAIL)])
def test_too_little_memory_is_named(linux, free, status):
    linux(free)
    found = memory.memory(ASKED)
    assert found.status == status
    assert f"{free / 1000:.1f} GB free" in found.value


def test_the_limit_of_a_container_counts(linux):
    linux(20_000, of_container=1000)
    assert memory.memory(ASKED).status == FAIL
    assert memory.available() == pytest.approx(1000, abs=1)


@pytest.mark.skipif(memory.resource is None, reason="there is no ulimit here")
def test_the_limit_of_the_process_counts():
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (10**9, 10**9))\n"
        "from bach_keras.doctor import memory; assert 0 < memory.available() < 1000, memory.available()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_system_that_does_not_say_its_memory_passes(linux, monkeypatch):
    monkeypatch.setattr(memory, "_of_other_systems", lambda: None)
    assert memory.memory(ASKED).value == "not known on this system"


@pytest.mark.parametrize(("free", "status"), [(0.2, FAIL), (2.0, WARN), (50.0, PASS)])
def test_a_disk_that_is_full_or_nearly_is_named(monkeypatch, tmp_path, free, status):
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: Usage(0, 0, free * 1e9))
    found = disk.disk(Asked(tmp_path / "not" / "there"))[0]
    assert (found.name, found.status) == ("disk data", status)
    assert f"{free:.1f} GB free for {tmp_path}" in found.value


def test_a_disk_without_room_for_a_single_file_is_named(tmp_path):
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4k,nr_inodes=2", "none", tmp_path], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root may mount a disk")
    try:
        (tmp_path / "full").write_bytes(bytes(4096))
        found = disk.disk(Asked(tmp_path))[0]
    finally:
        subprocess.run(["umount", "--lazy", tmp_path], check=True)
    assert found.status == FAIL
    assert "No space left on device" in found.value
    assert found.fix.startswith("make room")


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "data").write_text("")
    found = disk.disk(Asked(tmp_path / "data"))[0]
    assert (found.status, found.value) == (FAIL, f"{tmp_path / 'data'} cannot be written to: Not a directory")


def test_a_folder_that_cannot_be_reached_is_named_and_hides_no_other(tmp_path):
    data = tmp_path / ("n" * 300)  # as a folder that is closed: to ask whether it is there is an error
    first, *others = disk.disk(Asked(data))
    assert (first.status, first.value) == (FAIL, f"{data} cannot be reached: File name too long")
    assert len(others) == len(disk.PLACES) - 1
    [found] = images.sets(Asked(data))
    assert (found.status, found.value) == (FAIL, f"{data / 'bach_bisque'} cannot be read: File name too long")


def test_a_user_without_a_home_is_told_of_that_alone(monkeypatch):
    def refuse():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(disk.Path, "home", refuse)
    by_name = {found.name: found for found in disk.disk(Asked(disk.Path("/tmp")))}
    assert by_name["disk caches"].status == FAIL
    assert by_name["disk caches"].fix == "set HOME to a folder of yours"
    assert by_name["disk data"].status == PASS


def test_a_locale_that_is_not_utf8_is_named():
    code = (
        "from bach_keras.doctor import settings, finding\n"
        "found = settings.text(finding.Asked()); assert found.status == 'WARN', found; print(found.value)"
    )
    odd = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "latin-1"}
    said = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | odd, capture_output=True, text=True, check=True
    ).stdout
    assert said == "file names in ascii and output in iso8859-1: names outside ASCII are misread\n"
    assert settings.text(ASKED).status == PASS


@pytest.fixture
def begins_now(monkeypatch):
    """The clock of the machine may have jumped since the tests were started."""
    monkeypatch.setattr(settings, "_BEGAN", time.monotonic() - time.time())


def test_a_clock_in_the_past_is_named(monkeypatch):
    class Past(settings.datetime.datetime):
        @classmethod
        def now(cls, zone):
            return cls(1970, 1, 2, tzinfo=zone)

    monkeypatch.setattr(settings.datetime, "datetime", Past)
    found = settings.clock(ASKED)
    assert (found.status, found.value) == (FAIL, "1970-01-02 00:00 UTC, which cannot be")


@pytest.mark.usefixtures("begins_now")
def test_a_file_from_the_future_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    late = tmp_path / "data" / "bach_bisque" / "own-x" / "1.2.0" / "metadata.json"
    late.parent.mkdir(parents=True)
    late.write_text("{}")
    assert settings.clock(Asked(tmp_path / "data")).status == PASS
    os.utime(late, (time.time() + 7260, time.time() + 7260))
    found = settings.clock(Asked(tmp_path / "data"))
    assert found.status == WARN
    assert f"{late} is from 2:01:00 later" in found.value


@pytest.mark.usefixtures("begins_now")
def test_a_clock_that_jumps_is_named(monkeypatch):
    monkeypatch.setattr(settings, "_BEGAN", settings._BEGAN + 3600)
    found = settings.clock(ASKED)
    assert found.status == WARN
    assert "it jumped by 3600 s" in found.value


def test_a_proxy_that_takes_requests_for_this_machine_is_named_without_its_password(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://me:secret@proxy.example:3128")
    found = settings.proxy(ASKED)
    assert found.status == WARN
    assert "http_proxy is proxy.example:3128" in found.value
    assert "secret" not in str(found)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1, localhost")
    assert settings.proxy(ASKED).status == PASS
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "*")
    assert settings.proxy(ASKED).status == PASS
    monkeypatch.setenv("https_proxy", "http://[::1")
    assert settings.proxy(ASKED).value == "https_proxy is not an address"


def test_a_port_that_is_taken_is_named_with_who_has_it(monkeypatch):
    with socket.create_server((ports.HOST, 0)) as server:
        taken = server.getsockname()[1]
        monkeypatch.setattr(ports, "PORTS", {taken: "`serve --port N`"})
        found = ports.ports(ASKED)
    assert found.status == WARN
    assert found.value.startswith(f"{taken} is in use by process {os.getpid()} (")
    assert "`serve --port N`" in found.fix
    assert ports.ports(ASKED).status == PASS


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("KERAS_BACKEND", "jax", FAIL),
        ("TF_USE_LEGACY_KERAS", "1", FAIL),
        ("TF_ONEDNN_ASSUME_FROZEN_WEIGHTS", "1", WARN),
        ("TF_CONFIG", "{}", WARN),
    ],
)
def test_a_variable_that_changes_what_keras_does_is_named(monkeypatch, name, value, status):
    for each in ("KERAS_BACKEND", "TF_ONEDNN_ASSUME_FROZEN_WEIGHTS"):
        monkeypatch.delenv(each, raising=False)
    assert settings.variables(ASKED).status == PASS
    monkeypatch.setenv(name, value)
    found = settings.variables(ASKED)
    assert found.status == status
    assert found.fix == f"`unset {name}`"


def test_a_python_without_stdout_has_no_wrong_output(monkeypatch):
    monkeypatch.setattr(settings, "sys", SimpleNamespace(getfilesystemencoding=lambda: "utf-8", stdout=None))
    assert settings.text(ASKED).status == PASS
