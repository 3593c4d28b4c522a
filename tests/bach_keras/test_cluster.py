"""Joining a Ray cluster: every address that is none, or not of ours, ends in one sentence within seconds."""

import socket
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from bach_keras import cluster
from datasets.errors import UserError


def refusal(address):
    with pytest.raises(UserError) as refused, cluster.connected(address):
        pass
    return str(refused.value)


@pytest.fixture
def head():
    """Return a function that starts what answers as the head of a cluster would, and gives its address."""
    servers = []

    def start(answer):
        class Head(grpc.GenericRpcHandler):
            def service(self, call):
                return grpc.unary_unary_rpc_method_handler(answer) if call.method.endswith("/CheckAlive") else None

        server = grpc.server(ThreadPoolExecutor(1), handlers=[Head()])
        servers.append(server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        server.stop(None)


def says_version(version):
    from ray.core.generated.gcs_service_pb2 import CheckAliveReply

    return lambda request, context: CheckAliveReply(ray_version=version).SerializeToString()


@pytest.mark.parametrize(
    "address", ["", "head", "ray://head:10001", "http://head:6379", "head:0", "head:65536", "a b:1"]
)
def test_an_address_that_is_none_is_refused(address):
    assert refusal(address).startswith(f"--address {address!r} is not the address of a Ray cluster: give HOST:PORT")


def test_an_address_where_nothing_listens_is_refused():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert refusal(address).startswith(f"No Ray cluster answered at {address} within 5 seconds: start one with")
        assert not cluster.is_alive(address, 1)


def test_something_else_that_listens_and_never_answers_is_refused(monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        assert refusal(address).startswith(f"No Ray cluster answered at {address} within 0.2 seconds")


def test_a_cluster_of_another_version_is_refused(head):
    assert "runs Ray 1.9.0, and this is Ray 2" in refusal(head(says_version("1.9.0")))


def test_a_cluster_that_wants_a_token_is_alive_and_says_what_it_wants(head):
    def refuse(request, context):
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "token")

    address = head(refuse)
    assert cluster.is_alive(address)
    assert "wants its token: set RAY_AUTH_TOKEN" in refusal(address)


def test_without_ray_a_sentence_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert "pip install -r requirements-scale.txt" in refusal("127.0.0.1:6379")
