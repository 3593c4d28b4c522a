"""A Ray cluster: joining one that is there, or one of this machine's own for as long as it is needed."""

import contextlib
import logging
import os
import re
import secrets
import signal
import threading
from collections.abc import Iterator

import grpc

from datasets.errors import UserError

# How long a cluster may take to say that it is there, in seconds. Ray itself would ask for minutes.
PATIENCE = 5.0

_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s\[\]:/@]+):(\d{1,5})")
_ALIVE = "/ray.rpc.NodeInfoGcsService/CheckAlive"
_REFUSALS = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)


def import_ray():
    """Return the module ``ray``, which sends no usage statistics; a UserError says how to install it."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read when Ray starts
    try:
        import ray
    except ImportError as error:
        raise UserError(
            f"Ray cannot be imported ({error}): install it with `pip install -r requirements-scale.txt`."
        ) from error
    logging.getLogger("ray").setLevel(logging.ERROR)  # it says with which token, and where its dashboard is not
    return ray


@contextlib.contextmanager
def connected(address: str | None, cpus: int | None = None, is_quiet: bool = False) -> Iterator:
    """Give ``ray`` connected to a cluster, and leave it when the block ends.

    Args:
        address: host:port, as ``ray start --head`` prints it; None starts a cluster on this machine, for this block.
        cpus: of the cluster that is started; None counts this machine's.
        is_quiet: do not print what Ray's own processes wrote last when they are lost, forty lines each.

    Raises:
        UserError: Ray is missing, or there is no cluster that answers, or this machine cannot join it.
    """
    ray = import_ray()
    quiet = {"log_to_driver": False, "configure_logging": False}
    with contextlib.ExitStack() as stack:
        if address is None:
            stack.enter_context(_own_token())  # Ray would write one to the user's home
            # With an address of its own, a cluster of this machine alone listens to nobody else.
            start = {"address": "local", "_node_ip_address": "127.0.0.1", "num_cpus": cpus, "include_dashboard": False}
            advice = "Ray cannot be started on this machine ({})."
        else:
            _check(ray, address)
            stack.enter_context(_users_token())
            start = {"address": address}
            advice = (
                f"The Ray cluster at {address} cannot be joined ({{}}): give this command on a machine of the cluster, "
                f"where `ray start --address={address}` was given."
            )
        if is_quiet:
            stack.enter_context(_quiet(ray))
        ours = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(**start, **quiet)
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            raise UserError(advice.format(" ".join(str(error).split())[:300].rstrip("."))) from error
        stack.callback(ray.shutdown)
        if callable(ours) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, ours)  # Ray's would end this process without a word
        yield ray


@contextlib.contextmanager
def _quiet(ray) -> Iterator[None]:
    listen = ray._private.worker.listen_error_messages
    ray._private.worker.listen_error_messages = lambda *given: None  # no setting of Ray's does that
    try:
        yield
    finally:
        ray._private.worker.listen_error_messages = listen


def is_alive(address: str, patience: float = PATIENCE) -> bool:
    """Say whether the head of the cluster at an address answers in time."""
    try:
        _ask(address, patience)
    except grpc.RpcError as error:
        return error.code() in _REFUSALS
    return True


def _own_token():
    """Let a cluster that starts in this context answer this process alone."""
    return _environment({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)})


def _users_token():
    """Show the user's token, if there is one, to a cluster that is joined in this context."""
    from ray._raylet import AuthenticationTokenLoader

    has_token = AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True)
    return _environment({"RAY_AUTH_MODE": "token"} if has_token else {})


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    _read_token_again()
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
        _read_token_again()


def _read_token_again() -> None:
    from ray._raylet import AuthenticationTokenLoader, Config

    Config.initialize("")  # Ray reads its environment once, when it is imported
    AuthenticationTokenLoader.instance().reset_cache()


def _check(ray, address) -> None:
    """Refuse an address at which no cluster answers that this version of Ray can join."""
    found = _ADDRESS.fullmatch(address)
    if found is None or not 0 < int(found[2]) < 65536:
        raise UserError(
            f"--address {address!r} is not the address of a Ray cluster: give HOST:PORT as `ray start --head` prints "
            "it, such as 10.0.0.1:6379."
        )
    try:
        reply = _ask(address, PATIENCE)
    except grpc.RpcError as error:
        if error.code() in _REFUSALS:
            raise UserError(
                f"The Ray cluster at {address} wants its token: set RAY_AUTH_TOKEN to it, or put it into "
                "~/.ray/auth_token."
            ) from error
        raise UserError(
            f"No Ray cluster answered at {address} within {PATIENCE:g} seconds: start one with `ray start --head`, or "
            "correct --address."
        ) from error
    from ray.core.generated.gcs_service_pb2 import CheckAliveReply

    version = CheckAliveReply.FromString(reply).ray_version
    if version and version != ray.__version__:
        raise UserError(
            f"The cluster at {address} runs Ray {version}, and this is Ray {ray.__version__}: install one version on "
            "all machines."
        )


def _ask(address, patience) -> bytes:
    """Return what the head says when it is asked whether it is alive."""

    def as_it_is(message):
        return message

    from ray._raylet import AuthenticationTokenLoader

    token = AuthenticationTokenLoader.instance().get_token_for_http_header(ignore_auth_mode=True)
    # A proxy is for addresses outside; Ray goes past it too.
    with grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
        call = channel.unary_unary(_ALIVE, request_serializer=as_it_is, response_deserializer=as_it_is)
        return call(b"", timeout=patience, metadata=tuple(token.items()))
