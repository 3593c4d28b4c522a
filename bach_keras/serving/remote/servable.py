"""An export as the development server answers with it, over either transport."""

import re

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow_serving.apis.get_model_metadata_pb2 import SignatureDefMap
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusResponse, ModelVersionStatus

from bach_keras.serving.address import Address
from bach_keras.serving.exported import Export
from bach_keras.version_folder import is_version
from datasets.errors import UserError

# The most images in one request, so that one user cannot occupy a server that others use too.
MAX_IMAGES = 32

# The most characters of a refusal: it may repeat parts of the request, and gRPC sends it in headers of at most 8 KB.
MAX_MESSAGE = 500

# The label of the only version; deploy/models.config has it too.
LABEL = "stable"

# What failed in the graph -> how the request is refused; anything else is an internal error.
_CODES = {
    tf.errors.InvalidArgumentError: grpc.StatusCode.INVALID_ARGUMENT,
    tf.errors.ResourceExhaustedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
}

# The places in the graph that TensorFlow names after the reason of a failure.
_PLACES = re.compile(r"\[\[\{\{node .*?\}\}\]\]|\[Op:[^\]]*\]")


class RefusedError(Exception):
    """A request that is refused, with a gRPC status code, for which REST has a number, and TF Serving's own words."""

    def __init__(self, code: grpc.StatusCode, message: str):
        super().__init__(message if len(message) <= MAX_MESSAGE else f"{message[:MAX_MESSAGE]} ...")
        self.code = code


def bad_request(message: str) -> RefusedError:
    """Return the refusal of a request that no server could answer."""
    return RefusedError(grpc.StatusCode.INVALID_ARGUMENT, message)


class Servable:
    """One version of a model, by the name that requests must use."""

    def __init__(self, export: Export, name: str):
        if not name or not name.isprintable():
            raise UserError(f"A model cannot be called {name!r}: give --name printable characters.")
        self.name = name
        self.version = int(export.folder.name) if is_version(export.folder.name) else 1
        self._signatures = export.signatures
        # The functions that were loaded do not have all of what metadata must show, so the file is read.
        saved = SavedModel.FromString((export.folder / "saved_model.pb").read_bytes())
        self.signature_defs = SignatureDefMap(signature_def=saved.meta_graphs[0].signature_def)

    def check(self, address: Address) -> None:
        """Refuse a request for another model or version."""
        if not address.name:
            raise bad_request("ModelSpec has no name specified.")
        if address.name != self.name:
            raise RefusedError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: Latest({address.name})")
        if address.version not in (None, self.version):
            place = f"Specific({address.name}, {address.version})"
            raise RefusedError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {place}")
        if address.label not in ("", LABEL):
            raise bad_request(f"Unrecognized servable version label: {address.label}")

    def status(self, is_open: bool) -> GetModelStatusResponse:
        """Return TF Serving's description of the version: ready, or about to go."""
        response = GetModelStatusResponse()
        version = response.model_version_status.add(version=self.version)
        version.state = ModelVersionStatus.AVAILABLE if is_open else ModelVersionStatus.UNLOADING
        version.status.error_code = 0
        return response

    def inputs(self, signature: str) -> dict[str, tf.TensorSpec]:
        """Return a signature's inputs, by name."""
        if signature not in self._signatures:
            raise bad_request(f'Serving signature name: "{signature}" not found in signature def')
        return self._signatures[signature].structured_input_signature[1]

    def check_inputs(self, signature: str, given: dict[str, tuple[tf.DType, tuple[int, ...]]]) -> None:
        """Refuse inputs whose names, types or shapes are not the signature's, and no images or too many."""
        wanted = self.inputs(signature)
        if set(given) != set(wanted):
            raise bad_request(f"The inputs of {signature} are {sorted(wanted)}, but the request has {sorted(given)}.")
        for name, (dtype, shape) in given.items():
            spec = wanted[name]
            if dtype != spec.dtype:
                raise bad_request(f"{name} has the type {dtype.name}; {spec.dtype.name} is expected.")
            if not spec.shape.is_compatible_with(shape):
                raise bad_request(f"{name} has the shape {shape}; {spec.shape} is expected.")
            check_count(name, shape[0])

    def predict(self, signature: str, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Answer one request."""
        self.check_inputs(signature, {name: (tf.as_dtype(value.dtype), value.shape) for name, value in given.items()})
        try:
            answer = self._signatures[signature](**{name: tf.constant(value) for name, value in given.items()})
        except tf.errors.OpError as error:
            raise RefusedError(_CODES.get(type(error), grpc.StatusCode.INTERNAL), _reason(error)) from error
        return {name: value.numpy() for name, value in answer.items()}


def _reason(error) -> str:
    """Return the reason of a failure in the graph, without the places."""
    reason = error.message.rpartition("<stack traces unavailable>")[2]
    return " ".join(_PLACES.sub("", reason).split())


def check_count(name: str, count: int) -> None:
    """Refuse an input of no images, or of too many."""
    if not 1 <= count <= MAX_IMAGES:
        raise bad_request(f"{name} holds {count} images; a request may hold 1 to {MAX_IMAGES}.")
