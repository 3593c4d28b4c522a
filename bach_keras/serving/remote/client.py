"""Answers from a tree that TF Serving, or the command ``serve``, serves over REST or gRPC."""

import re
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import numpy as np

from bach_keras.fields import TEXTS, FieldError, check, parse_object
from bach_keras.serving import answers
from bach_keras.serving.address import Address
from bach_keras.serving.card import SIDE, outputs_of, ranges_of, warnings_of
from bach_keras.serving.exported import ROUTINGS
from bach_keras.serving.images import as_png, as_seen
from bach_keras.serving.remote.transports import Grpc, NotTakenError, Rest, ServerError, UnavailableError, said
from datasets.errors import UserError

# Seconds to wait before each further try.
PAUSES = (0.5, 1.0, 2.0, 4.0)

# How TF Serving, over either transport, and `serve` say that a model has no such signature, or one with other inputs.
_OF_ANOTHER_KIND = re.compile(
    r"Serving signature (name|key):? ?\"card\" not found|input tensor alias not found in signature"
    r"|input size does not match signature|does not have named input"
    r"|The keys of 'inputs' must be:|The inputs of card are"
)

# Seconds. The time-outs of the transports overflow not far above a day.
MAX_TIMEOUT = 86_400


class Remote:
    """A served tree; ``predict_files`` takes it in place of an ``Export``.

    Args:
        url: ``http://HOST:PORT``, ``https://...`` or ``grpc://HOST:PORT``, then nothing, or
            TF Serving's ``/v1/models/NAME``, with ``/versions/N`` or ``/labels/LABEL`` or neither.
        timeout: seconds that one request may take from its beginning to its end.
        pauses: seconds to wait before each further try.
        send_whole: send images as they are, and not the parts that the model sees of them.

    Raises:
        OSError: no server answers there, or it has no such model, version or label.
    """

    def __init__(self, url: str, timeout: float = 60.0, pauses: tuple[float, ...] = PAUSES, send_whole: bool = False):
        if not 0 < timeout <= MAX_TIMEOUT:
            raise UserError(f"--timeout must be more than 0 s and at most {MAX_TIMEOUT}, not {timeout:g}.")
        self.request_bytes = 32 * 2**20  # of encoded images in one request; a larger image goes alone
        self._pauses = pauses
        self._server = _connect(url, timeout)
        self.card = self._card()  # None where the server has none to give
        self.outputs = outputs_of(self.card) if self.card else answers.TREE
        self.warnings = warnings_of(self.card)
        told = (self.card or {}).get("image_size")
        # The height of what ``prepared`` makes; None where images are sent whole.
        self.side = told if SIDE.fits(told) and not send_whole else None
        if not (self.side or send_whole):
            self.warnings += (
                "WARNING: the server does not say what side its model's images have, so they are sent whole.",
            )

        self.ranges = self._ranges()

    def _ranges(self):
        try:
            return ranges_of(self.card or {})
        except FieldError as error:
            self.warnings += (f"WARNING: the server's model card is damaged, so no image is judged by it: {error}.",)
            return None

    def prepared(self, pixels: np.ndarray) -> bytes:
        """Return what is sent of an image, uint8 [H, W, 3]: a PNG; threads may call it."""
        return as_png(as_seen(pixels, self.side, self.outputs.views) if self.side else pixels)

    def classify(self, images: list[bytes], routing: str = "soft") -> dict[str, np.ndarray]:
        """Classify images that ``prepared`` made, and the bytes of files, as an ``Export`` does."""
        return self.encoded(images, routing)

    def encoded(self, data: list[bytes], routing: str = "soft") -> dict[str, np.ndarray]:
        """Classify PNG, JPEG or BMP files of any sizes.

        Returns what an ``Export`` does, and ``fault``: why an image's answer is impossible, or "". An OSError means
        that the server did not answer, after all tries, or that all its answers are impossible.
        """
        parts = [self._part(part, routing) for part in _parts(data, self.request_bytes)]
        # A server may change to a model that is not calibrated between two requests: then no image has what it lacks.
        names = [name for name in parts[0] if all(name in part for part in parts)]
        joined = {name: np.concatenate([part[name] for part in parts]) for name in names}
        if data and all(joined["fault"]):
            raise ServerError(joined["fault"][0])
        return joined

    def _part(self, data, routing):
        outputs = self._call(ROUTINGS[routing], "image_bytes", data)
        if self.outputs.names - set(outputs):
            raise NotTakenError(
                f"{self._server.url} does not serve an export of this project, as it does not answer "
                f"{sorted(self.outputs.names)}."
            )
        try:
            return answers.as_arrays(outputs, len(data), routing, self._server.url, self.outputs)
        except answers.ImpossibleError as error:
            raise ServerError(str(error)) from None

    def _card(self):
        """Return the model's card; None where the model has none, or not one of this project's."""
        try:
            outputs = self._call("card", "query", [b""])
        except NotTakenError as error:
            if not _OF_ANOTHER_KIND.search(str(error)):
                raise
            return None
        texts = outputs.get("card")
        if not (isinstance(texts, list) and texts and isinstance(texts[0], str)):
            return None
        try:
            card = parse_object(texts[0])
            # The rest is not relied on here, and an older card that lacks some of it must still warn of phantoms.
            check(card, {"configs": TEXTS})
            wanted = list(outputs_of(card).classes)
            if (classes := card.get("classes", wanted)) != wanted:
                reason = f"a model card with the classes {said(classes)}"
                raise ServerError(str(answers.ImpossibleError(self._server.url, reason)))
            return card
        except FieldError:
            return None

    def _call(self, signature, name, values):
        for pause in (*self._pauses, None):
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
    except ValueError:  # urlsplit, of a port or a host that is not one
        is_good = False
    if not is_good:
        raise UserError(
            f"{url!r} is not a server's address: give http://HOST:8501 or grpc://HOST:8500, "
            "followed by /v1/models/NAME if the model has another name."
        )
    return _TRANSPORTS[parts.scheme](parts, address, timeout)


def _parts(data: list[bytes], most: int) -> Iterator[list[bytes]]:
    """Split images into requests of at most so many bytes; without images, one empty request."""
    part, size = [], 0
    for image in data:
        if part and size + len(image) > most:
            yield part
            part, size = [], 0
        part.append(image)
        size += len(image)
    yield part


_TRANSPORTS = {"http": Rest, "https": Rest, "grpc": Grpc}
