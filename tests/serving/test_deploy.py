"""What stands in for a TF Serving binary: its configuration files parse and agree, and the graph fits it."""

import re
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from bach_keras.serving.address import NAME
from bach_keras.serving.predict import BATCH
from bach_keras.serving.remote import servable
from bach_keras.serving.remote.rest import MAX_BODY
from datasets.labels import CLASSES

DEPLOY = Path(__file__).parents[2] / "deploy"

# Operations of TensorFlow's core library, whose kernels TF Serving links whole; none of Python, XLA or an add-on.
# First the network and its preprocessing, then files, control flow with tf.data, and variables.
ALLOWED = """
Abs AddN AddV2 ArgMax BiasAdd Cast ConcatV2 Const Conv2D DivNoNan Einsum Equal ExpandDims Fill FloorDiv FloorMod
GatherV2 Greater GreaterEqual Identity IdentityN Less LessEqual LogicalAnd LogicalNot LogicalOr MatMul Max MaxPool
Maximum Mean Min Minimum Mul Neg NoOp NotEqual OneHot OnesLike Pack Pad PadV2 Placeholder Pow Prod Range RealDiv Relu
Reshape ResizeBilinear Round Rsqrt ScaleAndTranslate ScatterNd Select SelectV2 Shape Size Slice Softmax Split Sqrt
Square Squeeze StridedSlice Sub Sum Tile Transpose Unpack Where ZerosLike

Assert All Any BitwiseAnd BitwiseXor Cumprod DecodeAndCropJpeg DecodeBmp DecodeJpeg DecodePng DecodeRaw EnsureShape
LeftShift LowerBound RaggedGather ReverseV2 RightShift SerializeTensor StaticRegexFullMatch StringJoin StringLength
Substr TensorListFromTensor TensorListGetItem TensorListReserve TensorListSetItem TensorListStack TopKV2
Unique UpperBound

BatchDatasetV2 ConcatenateDataset DatasetToSingleElement If IgnoreErrorsDataset OptionsDataset ParallelMapDatasetV2
PartitionedCall StatefulPartitionedCall StatelessIf StatelessWhile TensorDataset TensorSliceDataset

AssignVariableOp DisableCopyOnRead MergeV2Checkpoints ReadVariableOp ResourceGather RestoreV2 SaveV2 ShardedFilename
VarHandleOp VarIsInitializedOp
"""

# session_bundle_config.proto and monitoring_config.proto of tensorflow/serving, which tensorflow-serving-api leaves
# out: message -> field -> (number, type; * for repeated).
INT64 = ".google.protobuf.Int64Value"
MESSAGES = {
    "BatchingParameters": {
        "max_batch_size": (1, INT64),
        "batch_timeout_micros": (2, INT64),
        "max_enqueued_batches": (3, INT64),
        "num_batch_threads": (4, INT64),
        "thread_pool_name": (5, ".google.protobuf.StringValue"),
        "allowed_batch_sizes": (6, "INT64*"),
        "pad_variable_length_inputs": (7, "BOOL"),
    },
    "PrometheusConfig": {"enable": (1, "BOOL"), "path": (2, "STRING")},
    "MonitoringConfig": {"prometheus_config": (1, ".tensorflow.serving.PrometheusConfig")},
}


def message_class(name):
    """Make a class of one of MESSAGES."""
    file = descriptor_pb2.FileDescriptorProto(name="missing.proto", package="tensorflow.serving", syntax="proto3")
    file.dependency.append(wrappers_pb2.DESCRIPTOR.name)
    field_type = descriptor_pb2.FieldDescriptorProto
    for message, fields in MESSAGES.items():
        made = file.message_type.add(name=message)
        for field, (number, kind) in fields.items():
            repeated = field_type.LABEL_REPEATED if kind.endswith("*") else field_type.LABEL_OPTIONAL
            added = made.field.add(name=field, number=number, label=repeated)
            if kind.startswith("."):
                added.type, added.type_name = field_type.TYPE_MESSAGE, kind
            else:
                added.type = getattr(field_type, f"TYPE_{kind.rstrip('*')}")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tensorflow.serving.{name}"))


def parsed(name, message):
    return text_format.Parse((DEPLOY / name).read_text(), message())


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]


@pytest.fixture(scope="module")
def cluster():
    deployment, service = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
    return deployment, service


def test_the_model_config():
    (model,) = parsed("models.config", ModelServerConfig).model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == (NAME, f"/models/{NAME}", "tensorflow")
    # A label on a version that is not loaded answers nobody.
    assert set(model.version_labels.values()) <= set(model.model_version_policy.specific.versions)
    assert servable.LABEL in model.version_labels


def test_the_batching_config():
    batching = parsed("batching.config", message_class("BatchingParameters"))
    # TF Serving refuses a larger request, so the client's must fit.
    assert BATCH <= batching.max_batch_size.value <= servable.MAX_IMAGES
    assert batching.batch_timeout_micros.value < 50_000
    assert batching.num_batch_threads.value >= 1
    # Padding would put a black border around pictures of the signature images.
    assert not batching.pad_variable_length_inputs
    with pytest.raises(text_format.ParseError):
        text_format.Parse("max_batchsize { value: 8 }", message_class("BatchingParameters")())


def test_the_monitoring_config():
    prometheus = parsed("monitoring.config", message_class("MonitoringConfig")).prometheus_config
    assert prometheus.enable
    assert prometheus.path.startswith("/")


def test_both_ways_to_deploy_give_the_same_flags(compose, cluster):
    (container,) = cluster[0]["spec"]["template"]["spec"]["containers"]
    flags = [flag for flag in container["args"] if "parallelism" not in flag]
    for service in compose.values():
        assert service["command"] == flags
    given = dict(flag.removeprefix("--").split("=", 1) for flag in flags)
    for name, path in given.items():
        if name.endswith("_file"):
            assert (DEPLOY / Path(path).relative_to("/config")).is_file()
    assert given["grpc_channel_arguments"] == f"grpc.max_receive_message_length={MAX_BODY}"


def test_the_images_are_of_our_tensorflow(compose, cluster):
    (container,) = cluster[0]["spec"]["template"]["spec"]["containers"]
    tag = f"tensorflow/serving:{version('tensorflow')}"
    assert compose["cpu"]["image"] == container["image"] == tag
    assert compose["gpu"]["image"] == f"{tag}-gpu"
    assert version("tensorflow-serving-api") == version("tensorflow")


def test_compose_listens_on_loopback_and_cannot_write(compose):
    assert {name: service["profiles"] for name, service in compose.items()} == {"cpu": ["cpu"], "gpu": ["gpu"]}
    for service in compose.values():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert all(volume.endswith(":ro") for volume in service["volumes"])
        assert any(f":/models/{NAME}:" in volume for volume in service["volumes"])


def test_the_manifest_hangs_together(cluster):
    deployment, service = cluster
    pod = deployment["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    names = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert names == {"grpc": 8500, "rest": 8501}
    assert {f"--port={names['grpc']}", f"--rest_api_port={names['rest']}"} <= set(container["args"])
    assert {port["targetPort"] for port in service["spec"]["ports"]} == set(names)
    assert service["spec"]["selector"] == pod["metadata"]["labels"] == deployment["spec"]["selector"]["matchLabels"]
    for probe in ("startupProbe", "readinessProbe"):
        assert container[probe]["httpGet"] == {"path": f"/v1/models/{NAME}/metadata", "port": "rest"}
    assert container["livenessProbe"]["grpc"]["port"] == names["grpc"]  # a probe of this kind takes no name
    assert "--enable_grpc_healthcheck_service=true" in container["args"]
    assert "cpu" in container["resources"]["limits"]
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    assert set(mounts) == set(volumes)
    assert mounts["models"]["readOnly"]
    assert mounts["models"]["mountPath"] == f"/models/{NAME}"
    assert volumes["models"]["persistentVolumeClaim"]["readOnly"]
    kustomization = yaml.safe_load((DEPLOY / "kustomization.yaml").read_text())
    (made,) = kustomization["configMapGenerator"]
    assert made["name"] == volumes["config"]["configMap"]["name"]
    assert set(made["files"]) == {path.name for path in DEPLOY.glob("*.config")}


def test_both_ways_to_deploy_keep_packed_kernels_as_predict_does(compose, cluster):
    (container,) = cluster[0]["spec"]["template"]["spec"]["containers"]
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    assert environment == {"TF_ONEDNN_ASSUME_FROZEN_WEIGHTS": "1"}
    assert all(service["environment"] == environment for service in compose.values())


def test_both_ways_to_deploy_give_the_same_memory(compose, cluster):
    (container,) = cluster[0]["spec"]["template"]["spec"]["containers"]
    memory = container["resources"]["limits"]["memory"]
    assert {service["mem_limit"] for service in compose.values()} == {memory.lower().removesuffix("i")}
    assert f"{memory.removesuffix('Gi')} GiB" in (DEPLOY / "README.md").read_text()


def test_the_readme_names_files_that_are_there():
    named = re.findall(r"^\| (.*?) \|", (DEPLOY / "README.md").read_text(), flags=re.MULTILINE)
    files = {name.strip("`") for cell in named for name in cell.split(", ") if "." in name}
    assert files == {path.name for path in DEPLOY.iterdir()} - {"README.md"}


@pytest.mark.parametrize("export", ["exported", "knowing"])
def test_the_graph_holds_operations_of_tensorflows_core_only(export, request):
    folder = request.getfixturevalue(export)
    (meta,) = SavedModel.FromString((folder / "saved_model.pb").read_bytes()).meta_graphs
    functions = meta.graph_def.library.function
    nodes = [*meta.graph_def.node, *(node for function in functions for node in function.node_def)]
    called = {function.signature.name for function in functions}
    ops = {node.op for node in nodes} - called
    assert "Conv2D" in ops
    assert ops <= set(ALLOWED.split())
    assert not [function.signature.name for function in functions if function.attr["_XlaMustCompile"].b]
    # A device name written into the graph would be missing on another machine.
    assert not {node.device for node in nodes if node.device and "CPU:" not in node.device}


def test_the_folder_is_what_tf_serving_reads(exported):
    assert exported.name.isdigit()
    files = {str(path.relative_to(exported)) for path in exported.rglob("*") if path.is_file()}
    assert files >= {
        "saved_model.pb", "variables/variables.index", "assets/class_names.txt", "assets/model_card.json",
        "assets.extra/tf_serving_warmup_requests", "assets.extra/model_card.md",
        "assets.extra/members.json", "assets.extra/members.h5",
    }  # fmt: skip
    assert (exported / "assets/class_names.txt").read_text().split() == list(CLASSES)
    page = (exported / "assets.extra/model_card.md").read_text()
    for words in ("not a medical device", "SYNTHETIC", "| carci |", "Apache-2.0", "validation images"):
        assert words in page
