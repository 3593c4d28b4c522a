import pytest
import tensorflow as tf
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog


@pytest.fixture(scope="module")
def requests(exported):
    """The requests of the export's warm-up file, as TF Serving reads them."""
    records = tf.data.TFRecordDataset(str(exported / "assets.extra" / "tf_serving_warmup_requests"))
    logs = [PredictionLog.FromString(record) for record in records.as_numpy_iterator()]
    assert all(log.WhichOneof("log_type") == "predict_log" for log in logs)
    return [log.predict_log.request for log in logs]


def test_each_signature_of_images_is_warmed_for_one_and_for_several(requests):
    sizes = {}
    for request in requests:
        (tensor,) = request.inputs.values()
        sizes.setdefault(request.model_spec.signature_name, []).append(tensor.tensor_shape.dim[0].size)
    of_files = {name: [1, 4] for name in ("serving_default", "routed", "features")}
    assert sizes == of_files | {"images": [1]}


def test_the_model_answers_every_request(requests, export):
    signatures = export.signatures
    for request in requests:
        given = {name: tf.constant(tf.make_ndarray(tensor)) for name, tensor in request.inputs.items()}
        answer = signatures[request.model_spec.signature_name](**given)
        assert answer["ok"].numpy().all()
