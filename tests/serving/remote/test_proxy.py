"""A proxy in the environment stands before other machines, and is named; never before this one."""

import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from bach_keras.serving.remote import proxy
from bach_keras.serving.remote.client import Remote

VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy", "no_proxy", "no_grpc_proxy")


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Leave no proxy of the machine in the environment."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


@pytest.fixture
def dead_proxy(environment):
    """Set every variable to a proxy that is not there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    for name in VARIABLES[:4]:
        environment.setenv(name, f"http://user:secret@{address}")
        environment.setenv(name.upper(), f"http://user:secret@{address}")
    return address


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.8.9.1", "127.1", "2130706433", "localhost", "LOCALHOST.", "my.localhost", "::1",
     "::ffff:127.0.0.1", "0.0.0.0", "::", "localhost.localdomain"],
)  # fmt: skip
def test_this_machine(host):
    assert proxy.is_this_machine(host)


@pytest.mark.parametrize(
    "host", ["192.168.0.1", "example.org", "localhost.example.org", "fe80::1", "126.0.0.1", "12", "slides.localdomain"]
)
def test_another_machine(host):
    assert not proxy.is_this_machine(host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost"])
@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_loopback_is_never_sent_to_a_proxy(dead_proxy, scheme, host):
    with socket.create_server((host, 0)) as listener:
        url = f"{scheme}://{host}:{listener.getsockname()[1]}"
        with pytest.raises(OSError, match=r"longer than|does not answer") as caught:
            Remote(url, timeout=0.5, pauses=())
        listener.settimeout(5)
        listener.accept()[0].close()
    assert "proxy" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://slides.invalid:8501", "https://slides.invalid:8501", "grpc://slides.invalid:8500"]
)
def test_a_proxy_that_is_not_there_is_named_without_its_password(dead_proxy, url):
    with pytest.raises(OSError, match=r"does not answer|longer than") as caught:
        Remote(url, timeout=5, pauses=())
    assert f"{url} (through the environment's proxy http://{dead_proxy})" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_proxy_that_answers_for_itself_is_named(environment):
    class Proxy(BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append(self.path)
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_error(502, "no such host")

        def log_message(self, *_):
            pass

    asked = []
    with HTTPServer(("127.0.0.1", 0), Proxy) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        environment.setenv("HTTP_PROXY", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(OSError, match=r"through the environment's proxy .*failed with 502: no such host"):
            Remote("http://slides.invalid:8501", pauses=())
        server.shutdown()
        thread.join()
    assert asked == ["http://slides.invalid:8501/v1/models/bach:predict"]


def test_a_proxy_is_shown_as_an_address():
    for given in ("proxy:3128", "http://proxy:3128/", "user:secret@proxy:3128"):
        assert proxy.without_password(given) == "http://proxy:3128"


def test_exceptions_are_the_environments(environment):
    environment.setenv("http_proxy", "http://proxy:3128")
    environment.setenv("no_proxy", "slides.example, 10.0.0.0/8")
    assert proxy.for_http("http://slides.example:8501/v1", "slides.example") is None
    assert proxy.for_http("http://10.1.2.3:8501/v1", "10.1.2.3") is None
    assert proxy.for_http("http://other.example:8501/v1", "other.example") == "http://proxy:3128"
    assert proxy.for_grpc("http://10.1.2.3:8500", "10.1.2.3") is None
    assert proxy.for_grpc("http://other.example:8500", "other.example") == "http://proxy:3128"
    environment.setenv("no_grpc_proxy", "other.example")
    assert proxy.for_grpc("http://other.example:8500", "other.example") is None
    environment.setenv("grpc_proxy", "socks5://proxy:1080")
    assert proxy.for_grpc("http://third.example:8500", "third.example") is None
    environment.setenv("ALL_PROXY", "http://all:3128")
    environment.delenv("http_proxy")
    assert proxy.for_http("http://other.example:8501/v1", "other.example") == "http://all:3128"
