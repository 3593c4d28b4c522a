"""Answers from a tree that TF Serving, or the command ``serve``, holds: over REST or gRPC."""

import re
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import numpy as np

from bach_keras.serving import answers
from bach_keras.serving.address import Address
from bach_keras.serving.card import decodes_otherwise
from bach_keras.serving.predict import ROUTINGS
from bach_keras.serving.remote import strict_json
from bach_keras.serving.remote.transports import Grpc, NotTakenError, Rest, ServerError, UnavailableError, said
from datasets.errors import UserError
from datasets.labels import CLASSES

# Seconds to wait before each further try.
PAUSES = (0.5, 1.0, 2.0, 4.0)

# Of encoded images in one request; a larger image goes alone.
REQUEST_BYTES = 32 * 2**20

# How TF Serving, by either transport, and `serve` say that a model has no such signature, or one that takes something
# else.
_OF_ANOTHER_KIND = re.compile(
    r"Serving signature (name|key):? ?\"card\" not found|input tensor alias not found in signature"
    r"|input size does not match signature|does not have named input"
    r"|The keys of 'inputs' must be:|The inputs of card are"
)

# Seconds; more than a day overflows below.
MAX_TIMEOUT = 86_400


class Remote:
    """A served tree; ``predict`` takes it in place of an ``Export``.

    Args:
        url: ``http://HOST:PORT``, ``https://...`` or ``grpc://HOST:PORT``; behind it nothing,
            or TF Serving's ``/v1/models/NAME``, with ``/versions/N`` or ``/labels/LABEL`` or neither.
        timeout: seconds that one request may take from its beginning to its end, at most MAX_TIMEOUT.

    Attributes:
        card: the model's card, or None where the server has none to give.

    Raises:
        UserError: the URL is no such address, or the timeout no such time.
        OSError: no server answers there, or it has no such model, version or label.
    """

    def __init__(self, url: str, timeout: float = 60.0):
        if not 0 < timeout <= MAX_TIMEOUT:
            raise UserError(f"A server cannot be given {timeout:g} s: --timeout is more than 0, at most {MAX_TIMEOUT}.")
        self._server = _connect(url, timeout)
        self.card = self._card()

    @property
    def is_phantom(self) -> bool:
        """Whether a member is known to have learned from synthetic images."""
        return self.card is not None and "phantom" in self.card["configs"]

    @property
    def decodes_otherwise(self) -> bool:
        """Whether it is known to be of an earlier version, which gives a JPEG other pixels."""
        return self.card is not None and decodes_otherwise(self.card)

    def encoded(self, data: list[bytes], routing: str = "soft") -> dict[str, np.ndarray]:
        """Classify PNG, JPEG or BMP files of any sizes.

        Returns:
            What an ``Export`` does, and ``fault``: why an image's answer cannot be, or "".

        Raises:
            OSError: the server did not answer, after all tries, or gave no answer that can be.
        """
        parts = [self._part(part, routing) for part in _parts(data)]
        whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        if data and all(whole["fault"]):
            raise ServerError(whole["fault"][0])
        return whole

    def _part(self, data, routing):
        outputs = self._call(ROUTINGS[routing], "image_bytes", data)
        if answers.NAMES - set(outputs):
            raise NotTakenError(
                f"{self._server.url} serves no export of this project: it does not answer {sorted(answers.NAMES)}."
            )
        try:
            arrays = answers.as_arrays(outputs, len(data), routing)
        except ValueError as error:
            raise ServerError(self._impossible(error)) from None
        arrays["fault"] = np.array([fault and self._impossible(fault) for fault in arrays["fault"]], object)
        return arrays

    def _impossible(self, reason) -> str:
        return f"{self._server.url} answers what no export of this project can: {reason}."

    def _card(self):
        try:
            card = strict_json.loads(self._call("card", "query", [b""])["card"][0].encode())
            configs = card["configs"]
        except NotTakenError as error:
            if not _OF_ANOTHER_KIND.search(str(error)):
                raise
            return None
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):  # a model of another kind
            return None
        if not (isinstance(configs, list) and all(isinstance(config, str) for config in configs)):
            return None
        if (classes := card.get("classes", list(CLASSES))) != list(CLASSES):
            raise ServerError(self._impossible(f"a model card with the classes {said(classes)}"))
        return card

    def _call(self, signature, name, values):
        for pause in (*PAUSES, None):
            try:
                return self._server.call(signature, name, values)
            except UnavailableError:
                if pause is None:
                    raise
            time.sleep(pause)


def _connect(url, timeout):
    try:
        parts = urlsplit(url)
        address = Address.parse(parts.path.rstrip("/")) if parts.path.strip("/") else Address()
        is_good = parts.scheme in _TRANSPORTS and parts.hostname and parts.port and address
        is_good = is_good and not (parts.query or parts.fragment or (parts.scheme == "grpc" and "@" in parts.netloc))
    except ValueError:  # a port that is none
        is_good = False
    if not is_good:
        raise UserError(
            f"{url!r} is no server's address: give http://HOST:8501 or grpc://HOST:8500, "
            "and behind it /v1/models/NAME if the model has another name."
        )
    return _TRANSPORTS[parts.scheme](parts, address, timeout)


def _parts(data: list[bytes]) -> Iterator[list[bytes]]:
    part, size = [], 0
    for image in data:
        if part and size + len(image) > REQUEST_BYTES:
            yield part
            part, size = [], 0
        part.append(image)
        size += len(image)
    yield part


_TRANSPORTS = {"http": Rest, "https": Rest, "grpc": Grpc}
