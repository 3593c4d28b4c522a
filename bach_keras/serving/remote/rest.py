"""TF Serving's REST interface, for the development server."""

import base64
import re
import threading
from http import HTTPStatus
from itertools import chain
from urllib.parse import urlsplit

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import json_format

from bach_keras.fields import FieldError, parse_object
from bach_keras.serving.address import Address
from bach_keras.serving.remote.admission import Admission
from bach_keras.serving.remote.servable import RefusedError, Servable, bad_request

# The most bytes of a body. The largest image that is accepted, as PNG that does not compress, has 201 MB in base64.
MAX_BODY = 256 * 2**20

# The most values in one request. Python needs up to 100 bytes for three bytes of JSON; one BACH image as numbers has 13
# million.
MAX_VALUES = 2**24

# The status of each code, as TF Serving maps them.
_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    grpc.StatusCode.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    grpc.StatusCode.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
    grpc.StatusCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
}

# Parsed JSON takes more memory than any other form of a request, so one request at a time is parsed.
_parsing = threading.Lock()


def answer(servable: Servable, admission: Admission, method: str, target: str, body: bytes):
    """Answer a request: GET of ``/v1/models/NAME`` (its state) or ``.../metadata``, POST of ``...:predict``.

    HEAD is answered as GET. A server that stops refuses predictions. Returns the status, and what is sent as JSON.
    """
    place = _path(target)
    verb = re.search(":predict$" if method == "POST" else "(/metadata)?$", place)
    address = verb and Address.parse(place[: verb.start()])
    if not address:
        status_ = HTTPStatus.BAD_REQUEST if place.startswith("/v1/") else HTTPStatus.NOT_FOUND
        return status_, {"error": f"Malformed request: {method} {target[:200]}"}
    try:
        servable.check(address)
        if method == "POST":
            with admission.accepted() as number, admission.slot(number):
                return HTTPStatus.OK, predict(servable, body)
        return HTTPStatus.OK, metadata(servable) if verb[0] else _as_json(servable.status(admission.is_open))
    except RefusedError as refusal:
        return _STATUS[refusal.code], {"error": str(refusal)}
    except MemoryError:
        return _STATUS[grpc.StatusCode.RESOURCE_EXHAUSTED], {"error": "There is no memory for this request."}


def _path(target: str) -> str:
    """Return the path of a target; "" for a URL that cannot be read."""
    try:
        return target.partition("?")[0] if target.startswith("/") else urlsplit(target).path
    except ValueError:
        return ""


def metadata(servable: Servable) -> dict:
    """Return the signatures' inputs and outputs."""
    return {
        "model_spec": {"name": servable.name, "signature_name": "", "version": str(servable.version)},
        "metadata": {"signature_def": _as_json(servable.signature_defs)},
    }


def _as_json(message) -> dict:
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def predict(servable: Servable, body: bytes) -> dict:
    """Answer a request in TF Serving's row form (``instances``) or columnar form (``inputs``)."""
    with _parsing:
        signature, form, given = _parsed(servable, body)
    outputs = servable.predict(signature, given)
    if form == "instances":
        return {"predictions": _as_rows(outputs)}
    columns = {name: _listed(value) for name, value in outputs.items()}
    return {"outputs": columns if len(columns) > 1 else next(iter(columns.values()))}


def _parsed(servable, body):
    """Return the signature, the form of the request, and its inputs."""
    # Values are counted before anything is parsed, by the bytes that must separate them.
    if sum(map(body.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise bad_request(f"The request has more than {MAX_VALUES} values: send images as files in base64.")
    try:
        request = parse_object(body.decode())
    except (UnicodeDecodeError, FieldError) as error:
        raise bad_request(f"JSON Parse error: {error}") from None
    signature = request.get("signature_name", "")
    if not isinstance(signature, str):
        raise bad_request("'signature_name' key must be a string value.")
    signature = signature or "serving_default"
    specs = servable.inputs(signature)
    if ("instances" in request) == ("inputs" in request):
        raise bad_request("Missing 'inputs' or 'instances' key, or both are there.")
    form = "instances" if "instances" in request else "inputs"
    read = _from_rows if form == "instances" else _from_columns
    return signature, form, read(request[form], specs)


def _from_rows(rows, specs) -> dict[str, np.ndarray]:
    if not isinstance(rows, list):
        raise bad_request("Excepting 'instances' to be an list/array")
    if not rows:
        raise bad_request("No values in 'instances' array")
    # Rows of a signature with one input need not name it.
    if not _is_named(rows[0]):
        return _from_columns(rows, specs)
    if not all(_is_named(row) and set(row) == set(specs) for row in rows):
        raise bad_request(f"Each of 'instances' must be an object with the keys: {', '.join(specs)}")
    return {name: _tensor([row[name] for row in rows], spec) for name, spec in specs.items()}


def _from_columns(columns, specs) -> dict[str, np.ndarray]:
    if not _is_named(columns):
        if len(specs) > 1:
            raise bad_request(f"The inputs must be an object with the keys: {', '.join(specs)}")
        columns = dict.fromkeys(specs, columns)
    if set(columns) != set(specs):
        raise bad_request(f"The keys of 'inputs' must be: {', '.join(specs)}")
    return {name: _tensor(columns[name], spec) for name, spec in specs.items()}


def _is_named(value) -> bool:
    # {"b64": ...} is a value and not an object of inputs by name.
    return isinstance(value, dict) and set(value) != {"b64"}


def _tensor(value, spec) -> np.ndarray:
    if spec.dtype == tf.string:
        return np.array([_bytes(each) for each in value] if isinstance(value, list) else _bytes(value), object)
    try:
        return _numbers(value, spec.shape.rank)
    except (TypeError, ValueError):  # JSON of any other form
        raise bad_request(f"The JSON value is not an array of {spec.dtype.name} of the shape {spec.shape}.") from None


def _numbers(value, rank) -> np.ndarray:
    """Read nested lists of 0 to 255."""
    # NumPy would turn all values into texts as long as the longest, if there is one among them.
    sides, level = [], [value]
    # Each round flattens one level; its lists must all have one length.
    for _ in range(rank):
        (side,) = {len(each) if isinstance(each, list) else None for each in level}
        sides.append(side)
        level = list(chain.from_iterable(level))
    if set(map(type, level)) != {int}:
        raise ValueError
    return np.frombuffer(bytes(level), np.uint8).reshape(sides)


def _bytes(value) -> bytes:
    if isinstance(value, str):
        # Half a character is refused later because it is not an image, as any other text is.
        return value.encode(errors="surrogatepass")
    if not (isinstance(value, dict) and isinstance(value.get("b64"), str)):
        raise bad_request(f"JSON Value of type {type(value).__name__} is not of expected type: string")
    try:
        return base64.b64decode(value["b64"], validate=True)
    except ValueError:
        raise bad_request("Unable to base64 decode") from None


def _as_rows(outputs) -> list:
    columns = {name: _listed(value) for name, value in outputs.items()}
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return rows if len(columns) > 1 else [next(iter(row.values())) for row in rows]


def _listed(array: np.ndarray) -> list:
    return [value.decode(errors="replace") for value in array] if array.dtype == object else array.tolist()
