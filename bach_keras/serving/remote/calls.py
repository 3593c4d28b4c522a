"""gRPC calls of one message and one response, for the development server."""

import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc
from google.protobuf.message import DecodeError

from bach_keras.serving.address import Address
from bach_keras.serving.remote.servable import RefusedError, bad_request

# Seconds until a message must be complete, and until it must be where something else waits for that.
RECEIVE = 60
HASTE = 5


def handler(answer: Callable, is_urgent: Callable[[], bool], ended: Callable[[], None], pool=None):
    """Return the handler of a call.

    ``answer`` makes a response from a message's bytes, and can ask whether the client still waits for it. The message
    must come in haste once ``is_urgent``. ``ended`` is called when there is a response. All runs in a pool of its own,
    or else in the server's.
    """
    # The handler takes a stream, which is the same on the wire. So it starts before the message is received, can limit
    # how long that takes, and can give a reason where bytes are not a message.

    # An error that outlives its block would hold this frame and the frame hold it: the call would keep its stream, of
    # which a client may have few, until the garbage is collected.
    def handle(messages, context):
        try:
            return answer(receive(messages, context, is_urgent), context.is_active)
        except RefusedError as error:
            code, words = error.code, str(error)
        except MemoryError:
            code, words = grpc.StatusCode.RESOURCE_EXHAUSTED, "There is no memory for this request."
        except Exception:  # a bug of ours ends one call, not the server
            traceback.print_exc()
            code, words = grpc.StatusCode.INTERNAL, "The server failed; its own output says why."
        finally:
            ended()
        context.abort(code, words)

    handle.experimental_thread_pool = pool
    return grpc.stream_unary_rpc_method_handler(handle, response_serializer=lambda message: message.SerializeToString())


def refused(refusal: RefusedError, pool: ThreadPoolExecutor) -> grpc.RpcMethodHandler:
    """Return the handler of a call whose message is not waited for."""

    def handle(messages, context):
        context.abort(refusal.code, str(refusal))

    handle.experimental_thread_pool = pool
    return grpc.stream_unary_rpc_method_handler(handle)


def receive(messages, context, is_urgent: Callable[[], bool]) -> bytes:
    """Return the first message of a call; the call is cancelled if its message does not come in time."""
    is_done = threading.Event()
    threading.Thread(target=_limit, args=(context, is_done, is_urgent), name="limit", daemon=True).start()
    try:
        return next(messages)
    except StopIteration:
        raise bad_request("The call holds no message.") from None
    except grpc.RpcError:  # cancelled, by the client or by _limit
        raise RefusedError(grpc.StatusCode.CANCELLED, "The message is not complete.") from None
    finally:
        is_done.set()


def _limit(context, is_done, is_urgent):
    end = time.monotonic() + RECEIVE
    is_done.wait(min(HASTE, RECEIVE))
    while not is_done.wait(0.2):
        if is_urgent() or time.monotonic() > end:
            context.cancel()
            return


def parsed(kind, message: bytes):
    """Return a message of a kind; bytes that are not one are refused."""
    try:
        return kind.FromString(message)
    except DecodeError:
        raise bad_request(f"The message is not a {kind.DESCRIPTOR.name}.") from None


def address_of(spec) -> Address:
    """Return the model that a ModelSpec names."""
    chosen = spec.WhichOneof("version_choice")
    if chosen == "version_label" and not spec.version_label:
        raise bad_request("Unrecognized servable version label: ")
    return Address(spec.name, spec.version.value if chosen == "version" else None, spec.version_label)
