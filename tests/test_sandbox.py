"""Tests see nothing of the user's own, and no network; nor does what they start."""

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import pytest

from bach_keras.network.weights import default_path
from datasets.bach_bisque.prepared import Prepared

LOOK = """
import os, socket, keras
print(os.path.expanduser("~"), keras.config.floatx(), keras.backend.backend())
for try_it in (lambda: socket.create_connection(("192.0.2.1", 80), 1), lambda: socket.getaddrinfo("example.org", 80)):
    try:
        try_it()
    except ConnectionRefusedError as error:
        print(error)
"""


def test_the_home_is_the_tests_own():
    home = Path.home()
    assert home.parent == Path(tempfile.gettempdir())
    assert home.name.startswith("bach-keras-home-")
    assert home == Path(os.path.expanduser("~"))


def test_data_weights_and_configuration_are_looked_for_there_alone():
    assert Prepared("bach").root.is_relative_to(Path.home())
    assert default_path().is_relative_to(Path.home())
    assert not default_path().exists()
    assert not Prepared("bach").is_there
    assert (keras.config.floatx(), keras.config.epsilon(), keras.backend.backend()) == ("float32", 1e-7, "tensorflow")


def test_no_proxy_is_set():
    assert [name for name in os.environ if name.lower().endswith("_proxy")] == []


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "example.org", b"example.org", "127.0.0.1.example.org"])
def test_nothing_but_this_machine_is_reached_or_looked_up(host):
    with pytest.raises(ConnectionRefusedError, match="The tests have no network"):
        socket.create_connection((host, 80), 1)
    with socket.socket(type=socket.SOCK_DGRAM) as sent, pytest.raises(ConnectionRefusedError):
        sent.sendto(b"", ("192.0.2.1", 53))
    for look_up in (socket.gethostbyname, socket.gethostbyaddr):
        if host != "2001:db8::1" or look_up is socket.gethostbyaddr:
            with pytest.raises(ConnectionRefusedError):
                look_up(host)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_this_machine_is_reached(host):
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection((host, server.getsockname()[1]), 1).close()


def test_what_a_test_starts_is_shut_in_too():
    done = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True)
    home, *refusals = done.stdout.splitlines()
    assert home == f"{Path.home()} float32 tensorflow"
    assert refusals == [f"The tests have no network: {host!r} was asked for." for host in ("192.0.2.1", "example.org")]
