"""Which operations a SavedModel may hold that is loaded here: those that exports of this project compute with.

A SavedModel is a program. TensorFlow has operations that read and write files, print, call Python or open connections,
and some of them may run while a model is loaded. None of the operations below does, so a model from elsewhere can at
worst take time and memory, as far as TensorFlow's own code is sound.
"""

from collections.abc import Iterator
from pathlib import Path

from google.protobuf.message import DecodeError, Message
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from bach_keras.fields import FieldError

_TODAY = frozenset({
    "Abs", "AddN", "AddV2", "All", "Any", "ArgMax", "Assert", "AssignVariableOp", "Atan2", "BatchDatasetV2",
    "BatchMatMulV2", "BiasAdd", "BitwiseAnd", "BitwiseXor", "Cast", "Ceil", "ConcatV2", "ConcatenateDataset",
    "Const", "Conv2D", "Cos", "Cumprod", "DatasetToSingleElement", "DecodeAndCropJpeg", "DecodeBmp", "DecodeJpeg",
    "DecodePng", "DecodeRaw", "DisableCopyOnRead", "DivNoNan", "Einsum", "EnsureShape", "Equal", "Exp",
    "ExpandDims", "Fill", "Floor", "FloorDiv", "FloorMod", "GatherV2", "Greater", "GreaterEqual", "Identity", "If",
    "IgnoreErrorsDataset", "LeftShift", "Less", "LessEqual", "LogicalAnd", "LogicalNot", "LogicalOr", "LowerBound",
    "MatMul", "MatrixDeterminant", "MatrixDiagV3", "MatrixInverse", "Max", "MaxPool", "Maximum", "Mean", "Min",
    "Minimum", "Mul", "Neg", "NoOp", "NotEqual", "OneHot", "OnesLike", "OptionsDataset", "Pack", "Pad",
    "ParallelMapDatasetV2", "PartitionedCall", "Placeholder", "Pow", "Prod", "RaggedGather", "Range",
    "ReadVariableOp", "RealDiv", "Relu", "Reshape", "ResourceGather", "ReverseV2", "RightShift", "Round", "Rsqrt",
    "ScaleAndTranslate", "ScatterNd", "Select", "SelectV2", "SelfAdjointEigV2", "SerializeTensor", "Shape", "Sin",
    "Size", "Softmax", "Split", "Sqrt", "Square", "SquaredDifference", "Squeeze", "StatefulPartitionedCall",
    "StatelessIf", "StatelessWhile", "StaticRegexFullMatch", "StopGradient", "StridedSlice", "StringJoin",
    "StringLength", "Sub", "Substr", "Sum", "TensorDataset", "TensorListFromTensor", "TensorListGetItem",
    "TensorListReserve", "TensorListSetItem", "TensorListStack", "TensorSliceDataset", "Tile", "TopKV2",
    "Transpose", "Unique", "Unpack", "UpperBound", "VarHandleOp", "VarIsInitializedOp", "Where", "While",
})  # fmt: skip

# Alike, and met in exports of earlier versions, or what TensorFlow may write in place of those above.
_MORE = frozenset({
    "ArgMin", "AvgPool", "BatchDataset", "BatchMatMul", "BitwiseOr", "BroadcastArgs", "BroadcastTo", "Case",
    "Cumsum", "DecodeImage", "DepthwiseConv2dNative", "EmptyTensorList", "Erf", "ExtractJpegShape",
    "FusedBatchNormV3", "GatherNd", "LinSpace", "Log", "MapDataset", "MatrixDiagPartV3", "PadV2",
    "ParallelMapDataset", "PrefetchDataset", "RaggedRange", "RaggedTensorToTensor", "Rank", "Reciprocal",
    "ResizeBilinear", "ResizeNearestNeighbor", "Sigmoid", "Sign", "Slice", "StatelessCase", "StringFormat", "Tanh",
    "TensorListLength", "TensorListPushBack", "TensorScatterUpdate", "ZerosLike",
})  # fmt: skip

COMPUTING = _TODAY | _MORE

# With these TensorFlow saves and restores variables, in functions that nothing else calls. Loaded in Python, a model is
# restored without them.
_SAVING = frozenset({"MergeV2Checkpoints", "RestoreV2", "SaveV2", "ShardedFilename"})

_EXCHANGED = "api_implements"


def check_operations(file: Path) -> None:
    """Refuse a ``saved_model.pb`` that holds other operations; must come before TensorFlow loads it."""
    try:
        saved = SavedModel.FromString(file.read_bytes())
    except DecodeError:
        raise FieldError(f"{file.name} is damaged or is not a SavedModel") from None
    # TensorFlow runs what another number of graphs, or one without objects, holds beside its functions.
    if len(saved.meta_graphs) != 1 or not saved.meta_graphs[0].HasField("object_graph_def"):
        raise FieldError(f"{file.name} is not a SavedModel of TensorFlow 2")
    graph = saved.meta_graphs[0]
    library = graph.graph_def.library.function
    # TensorFlow may run another function with the same value of this attribute than the one that is called. No export
    # of this project has any.
    if any(_EXCHANGED in function.attr for function in library):
        raise FieldError(
            f"{file.name} holds functions that TensorFlow may exchange for others, as no export of this project does"
        )
    functions = {function.signature.name: function.node_def for function in library}
    asked = _reached(functions, _roots(graph.object_graph_def))
    others = [graph.graph_def.node, *(nodes for name, nodes in functions.items() if name not in asked)]
    found = {node.op for name in asked for node in functions[name]} - COMPUTING
    found |= {node.op for nodes in others for node in nodes} - COMPUTING - _SAVING
    if found := found - set(functions):
        names = ", ".join(sorted(found)[:5])
        raise FieldError(f"{file.name} holds operations that no export of this project has: {names[:200]}")


def _roots(objects: Message) -> set[str]:
    """Return the functions that a loaded model calls, or offers to be called."""
    named = set(objects.concrete_functions)
    for node in objects.nodes:
        named.update(node.function.concrete_functions)
        named.add(node.bare_concrete_function.concrete_function_name)
    return named


def _reached(functions: dict, roots: set[str]) -> set[str]:
    """Return the functions of a library that some of them call, themselves included."""
    reached, waiting = set(), [name for name in roots if name in functions]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += [called for node in functions[name] for called in _called(node) if called in functions]
    return reached


def _called(node: Message) -> Iterator[str]:
    """Yield the functions that an operation calls: itself, where its name is a function's, and its attributes."""
    yield node.op
    waiting = [node.attr]
    while waiting:
        for value in waiting.pop().values():
            kind = value.WhichOneof("value")
            if kind in ("func", "list"):
                for function in [value.func] if kind == "func" else value.list.func:
                    yield function.name
                    waiting.append(function.attr)
