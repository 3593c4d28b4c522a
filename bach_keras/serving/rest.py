"""TF Serving's REST interface, for the development server."""

import base64
import json
import re
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow_serving.apis import get_model_status_pb2

from bach_keras.serving.address import Address
from bach_keras.serving.servable import RefusedError, Servable, bad_request

# The largest image that is taken, as PNG that does not compress, in base64: 201 MB.
MAX_BODY = 256 * 2**20

# As TF Serving maps them.
_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    grpc.StatusCode.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
}


class Handler(BaseHTTPRequestHandler):
    """Answers requests for the ``servable`` that a subclass names, as many at once as it has ``slots``."""

    servable: Servable
    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds that a silent client may hold a thread
    slots: threading.Semaphore  # one is held by each answer under way

    def do_GET(self):
        """Answer ``/v1/models/NAME`` (its state) and ``.../metadata``."""
        place = self.path.removesuffix("/metadata")
        self._answer(place, lambda: status(self.servable) if place == self.path else metadata(self.servable))

    def do_POST(self):
        """Answer ``...:predict``."""
        body = self._body()
        if body is None:
            return
        place = self.path.removesuffix(":predict")
        if place == self.path:
            self._malformed()
        else:
            self._answer(place, lambda: predict(self.servable, body))

    def _body(self):
        # What is not read would be taken for the next request.
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch("[0-9]{1,18}", length):
            self.close_connection = True
            self._send(HTTPStatus.LENGTH_REQUIRED, {"error": "The request has no Content-Length."})
        elif int(length) > MAX_BODY:
            self.close_connection = True
            message = f"The request has {length} bytes; at most {MAX_BODY} are taken."
            self._send(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"error": message})
        else:
            return self.rfile.read(int(length))

    def _answer(self, place, answer):
        address = Address.parse(place)
        if address is None:
            return self._malformed()
        try:
            self.servable.check(address)
            with self.slots:
                self._send(HTTPStatus.OK, answer())
        except RefusedError as refusal:
            self._send(_STATUS[refusal.code], {"error": str(refusal)})

    def _malformed(self):
        message = f"Malformed request: {self.command} {self.path}"
        known = self.path.startswith("/v1/")
        self._send(HTTPStatus.BAD_REQUEST if known else HTTPStatus.NOT_FOUND, {"error": message})

    def _send(self, code, value):
        data = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def status(servable: Servable) -> dict:
    """Return what TF Serving says of a version that is ready."""
    response = get_model_status_pb2.GetModelStatusResponse()
    version = response.model_version_status.add(version=servable.version)
    version.state = get_model_status_pb2.ModelVersionStatus.AVAILABLE
    version.status.error_code = 0
    return _as_json(response)


def metadata(servable: Servable) -> dict:
    """Return what the signatures take and give."""
    return {
        "model_spec": {"name": servable.name, "signature_name": "", "version": str(servable.version)},
        "metadata": {"signature_def": _as_json(servable.signature_defs)},
    }


def _as_json(message) -> dict:
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def predict(servable: Servable, body: bytes) -> dict:
    """Answer a request in TF Serving's row form (``instances``) or columnar form (``inputs``).

    Raises:
        RefusedError: what is wrong with the request.
    """
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise bad_request(f"JSON Parse error: {error}") from None
    if not isinstance(request, dict):
        raise bad_request("JSON Value: Is not object")
    signature = request.get("signature_name", "serving_default")
    if not isinstance(signature, str):
        raise bad_request("'signature_name' key must be a string value.")
    specs = servable.inputs(signature)
    if ("instances" in request) == ("inputs" in request):
        raise bad_request("Missing 'inputs' or 'instances' key, or both are there.")
    if "instances" in request:
        outputs = servable.predict(signature, _from_rows(request["instances"], specs))
        return {"predictions": _as_rows(outputs)}
    outputs = servable.predict(signature, _from_columns(request["inputs"], specs))
    columns = {name: _listed(value) for name, value in outputs.items()}
    return {"outputs": columns if len(columns) > 1 else next(iter(columns.values()))}


def _from_rows(rows, specs) -> dict[str, np.ndarray]:
    if not isinstance(rows, list):
        raise bad_request("Excepting 'instances' to be an list/array")
    if not rows:
        raise bad_request("No values in 'instances' array")
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
    return isinstance(value, dict) and set(value) != {"b64"}


def _tensor(value, spec) -> np.ndarray:
    if spec.dtype == tf.string:
        return np.array([_bytes(each) for each in value] if isinstance(value, list) else _bytes(value), object)
    try:
        array = np.asarray(value)
        if array.dtype.kind != "i" or array.min() < 0 or array.max() > 255:
            raise ValueError
    except ValueError:  # NumPy raises it too, for lists of uneven lengths and for empty ones
        raise bad_request(f"The JSON value is no array of {spec.dtype.name}.") from None
    return array.astype(spec.dtype.as_numpy_dtype)


def _bytes(value) -> bytes:
    if isinstance(value, str):
        return value.encode(errors="surrogatepass")  # half a character is no image, as any other text
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
    return [value.decode() for value in array] if array.dtype == object else array.tolist()
