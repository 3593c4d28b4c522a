"""A TFLite model as a graph that can be searched and changed: constants replaced, ops inserted."""

import hashlib

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

# What ``Graph.insert`` inserts.
MUL = (schema.BuiltinOperator.MUL, schema.BuiltinOptions.MulOptions, schema.MulOptionsT)
ADD = (schema.BuiltinOperator.ADD, schema.BuiltinOptions.AddOptions, schema.AddOptionsT)

_TYPES = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.float16): schema.TensorType.FLOAT16,
    np.dtype(np.int32): schema.TensorType.INT32,
}

# About what a packed model takes beside its constants; where it is more, the builder grows.
_SPARE = 2**22


class Graph:
    """A TFLite model of one graph and one signature, as objects of its schema; tensors are given by their index."""

    def __init__(self, model: bytes):
        self.model = flatbuffer_utils.read_model_from_bytearray(model)
        for buffer in self.model.buffers:
            # An array is packed at once, anything else byte by byte in Python.
            if buffer.data is not None:
                buffer.data = np.frombuffer(buffer.data, np.uint8)
        (self.subgraph,), (signature,) = self.model.subgraphs, self.model.signatureDefs
        self.outputs = {output.name.decode(): output.tensorIndex for output in signature.outputs}
        self._maker = {tensor: op for op in self.subgraph.operators for tensor in op.outputs}

    def kind(self, op) -> str:
        return flatbuffer_utils.opcode_to_name(self.model, op.opcodeIndex)

    def of_kind(self, *kinds) -> list:
        return [op for op in self.subgraph.operators if self.kind(op) in kinds]

    def name(self, tensor) -> str:
        return self.subgraph.tensors[tensor].name.decode()

    def named(self, name: str) -> int:
        return next(index for index in range(len(self.subgraph.tensors)) if self.name(index) == name)

    def data(self, tensor):
        """Return a constant's float32 values, or None for an activation."""
        held = self.subgraph.tensors[tensor]
        data = self.model.buffers[held.buffer].data
        return None if data is None else np.frombuffer(data, np.float32).reshape(held.shape)

    def is_map(self, tensor) -> bool:
        """Return whether a tensor is a feature map: an activation [N, H, W, C]."""
        return len(self.subgraph.tensors[tensor].shape) == 4 and tensor in self._maker

    def readers(self, tensor) -> list:
        return [op for op in self.subgraph.operators if tensor in op.inputs]

    def before(self, tensor) -> set:
        """Return a tensor and all tensors that it is computed from."""
        found, open_ends = set(), [tensor]
        while open_ends:
            end = open_ends.pop()
            if end not in found:
                found.add(end)
                open_ends += [given for given in getattr(self._maker.get(end), "inputs", ()) if given >= 0]
        return found

    def packed(self) -> memoryview:
        # A builder that starts small grows by copying, and its Output is another copy.
        builder = flatbuffers.Builder(
            _SPARE + sum(len(buffer.data) for buffer in self.model.buffers if buffer.data is not None)
        )
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return memoryview(builder.Bytes)[builder.Head() :]

    def add_constant(self, values, name: str) -> int:
        """Add a constant and return its index."""
        tensor = schema.TensorT()
        self.model.buffers.append(schema.BufferT())
        tensor.buffer = len(self.model.buffers) - 1
        index = self._add(tensor, name)
        self.set_constant(index, values)
        return index

    def set_constant(self, tensor, values) -> None:
        """Give a constant its values, as float32 unless they are float16 or int32."""
        values = np.asarray(values)
        values = np.ascontiguousarray(values, values.dtype if values.dtype in _TYPES else np.float32)
        held = self.subgraph.tensors[tensor]
        held.shape, held.type = np.array(values.shape, np.int32), _TYPES[values.dtype]
        self.model.buffers[held.buffer].data = values.reshape(-1).view(np.uint8)

    def bind(self, kernels, dtype) -> None:
        """Make inputs constants, kept as float32 or float16: pairs of a name and what the TRANSPOSE after it gives."""
        (signature,) = self.model.signatureDefs
        inputs, buffers = {given.name.decode(): given.tensorIndex for given in signature.inputs}, {}
        for name, values in kernels:
            given = inputs.pop(name)
            (op,) = self.readers(given)
            (read,) = op.outputs
            kernel = np.ascontiguousarray(values, dtype)
            # Equal kernels are kept once.
            digest = hashlib.sha256(kernel).digest(), kernel.shape
            if digest not in buffers:
                buffers[digest] = len(self.model.buffers)
                self.model.buffers.append(schema.BufferT())
            constant = given if dtype == np.float16 else read
            self.subgraph.tensors[constant].buffer = buffers[digest]
            self.set_constant(constant, kernel)
            if dtype == np.float16:
                op.opcodeIndex = self._opcode(schema.BuiltinOperator.DEQUANTIZE)
                op.builtinOptionsType, op.builtinOptions = 0, None
                op.inputs = [constant]
            else:
                self.subgraph.operators.remove(op)
                del self._maker[read]
        signature.inputs = [each for each in signature.inputs if each.name.decode() in inputs]
        self.subgraph.inputs = list(inputs.values())
        self.drop_unused()

    def refuse_other_shapes(self) -> None:
        """Make the model refuse an input of another shape than its own."""
        # An interpreter resizes the input to whatever it is given, and convolutions answer for any size. SPLIT_V
        # requires that its parts are as long as its input: with one part it copies what fits, and fails otherwise.
        (given,) = self.subgraph.inputs
        held = self.subgraph.tensors[given]
        readers, checked = self.readers(given), given
        for axis, side in enumerate(held.shape):
            op, made = schema.OperatorT(), schema.TensorT()
            made.shape, made.type = held.shape, held.type
            before, checked = checked, self._add(made, f"{self.name(given)}/checked/{axis}")
            sides, axes = np.array([side], np.int32), np.array(axis, np.int32)
            op.opcodeIndex = self._opcode(schema.BuiltinOperator.SPLIT_V)
            op.builtinOptionsType, op.builtinOptions = schema.BuiltinOptions.SplitVOptions, schema.SplitVOptionsT()
            op.builtinOptions.numSplits = 1
            op.inputs = [
                before,
                self.add_constant(sides, f"{self.name(checked)}/side"),
                self.add_constant(axes, f"{self.name(checked)}/axis"),
            ]
            op.outputs = [checked]
            self.subgraph.operators.insert(axis, op)
            self._maker[checked] = op
        for reader in readers:
            reader.inputs = [checked if tensor == given else tensor for tensor in reader.inputs]

    def insert(self, kind, tensor, values, readers) -> int:
        """Make some ops read a float32 tensor with constants added (``ADD``), or multiplied by them (``MUL``).

        Other ops than the readers still read the tensor itself. Returns the constants' tensor.
        """
        builtin, options_type, options = kind
        made = schema.TensorT()
        made.shape, made.type = self.subgraph.tensors[tensor].shape, schema.TensorType.FLOAT32
        result = self._add(made, f"{self.name(tensor)}/changed/{len(self.subgraph.tensors)}")
        constants = self.add_constant(values, f"{self.name(result)}/by")
        op = schema.OperatorT()
        op.opcodeIndex = self._opcode(builtin)
        op.builtinOptionsType, op.builtinOptions = options_type, options()
        op.inputs, op.outputs = [tensor, constants], [result]
        for reader in readers:
            reader.inputs = [result if given == tensor else given for given in reader.inputs]
        # Ops run in their order, so the new one follows the op that computes its input.
        self.subgraph.operators.insert(self.subgraph.operators.index(self._maker[tensor]) + 1, op)
        self._maker[result] = op
        return constants

    def drop_unused(self) -> None:
        """Empty the constants that no op reads any more."""
        # A tensor must keep its index, so only the constant's bytes are dropped.
        used = {tensor for op in self.subgraph.operators for tensor in op.inputs}
        for index, tensor in enumerate(self.subgraph.tensors):
            if index not in used and index not in self._maker:
                tensor.buffer = 0
        held = {holder.buffer for holder in (*self.subgraph.tensors, *(self.model.metadata or ()))}
        for index, buffer in enumerate(self.model.buffers):
            if index not in held:
                buffer.data = None

    def _add(self, tensor, name) -> int:
        tensor.name = name.encode()
        self.subgraph.tensors.append(tensor)
        return len(self.subgraph.tensors) - 1

    def _opcode(self, builtin) -> int:
        for index, code in enumerate(self.model.operatorCodes):
            if flatbuffer_utils.get_builtin_code_from_operator_code(code) == builtin:
                return index
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = builtin
        self.model.operatorCodes.append(code)
        return len(self.model.operatorCodes) - 1
