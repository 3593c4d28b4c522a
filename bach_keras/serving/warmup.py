"""The requests that TF Serving replays when it loads the model, so that the first user does not wait.

TF Serving reads them from ``assets.extra/tf_serving_warmup_requests``: a TFRecord file of
PredictionLog messages, at most 1,000.
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


def requests() -> Iterator[predict_pb2.PredictRequest]:
    """Yield a request of one image and one of four for each signature that takes files, and one of pixels.

    The images are phantoms of a patient beyond the data set, one of each class. The model's
    name is left out: the server knows which one it loads.
    """
    tissue = np.stack([phantom.draw(label, phantom.PATIENTS, 0) for label in CLASSES])
    files = [as_png(image) for image in tissue]
    for signature in ("serving_default", "routed", "features"):
        for count in (1, len(files)):
            yield _request(signature, "image_bytes", tf.make_tensor_proto(files[:count], tf.string))
    yield _request("images", "images", tf.make_tensor_proto(tissue[:1, ::2, ::2]))


def write(path: Path) -> None:
    """Write the warm-up file."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for request in requests():
            log = prediction_log_pb2.PredictLog(request=request)
            writer.write(prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString())


def _request(signature, name, tensor):
    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = signature
    request.inputs[name].CopyFrom(tensor)
    return request
