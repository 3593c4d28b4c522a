"""The requests that TF Serving replays when it loads the model, so that the first user does not wait.

It reads them from ``assets.extra/tf_serving_warmup_requests``: a TFRecord file of at most 1,000 PredictionLog messages.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from bach_keras.serving.images import as_png
from datasets import phantom
from datasets.labels import CLASSES

NAME = "tf_serving_warmup_requests"


def write(path: Path) -> None:
    """Write the warm-up file."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for request in _requests():
            log = prediction_log_pb2.PredictLog(request=request)
            writer.write(prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString())


def _requests() -> Iterator[predict_pb2.PredictRequest]:
    """Yield requests of one image and of four for each signature that takes files, and one of pixels."""
    # The images are phantoms of a patient whom the data set does not have, one of each class.
    tissue = np.stack([phantom.draw(label, phantom.PATIENTS, 0) for label in CLASSES])
    files = [as_png(image) for image in tissue]
    for signature in ("serving_default", "routed", "features"):
        for count in (1, len(files)):
            yield _request(signature, "image_bytes", tf.make_tensor_proto(files[:count], tf.string))
    # Not routed_images, which clients hardly call: each signature that has answered may keep packed kernels of its own.
    yield _request("images", "images", tf.make_tensor_proto(tissue[:1, ::2, ::2]))


def _request(signature, name, tensor):
    # The model's name is left out, as the server knows which model it loads.
    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = signature
    request.inputs[name].CopyFrom(tensor)
    return request
