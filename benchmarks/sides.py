"""The networks that the backbone's benchmark compares, each with the same jobs.

A side is a function: job -> a callable that does it once. It runs in a process
of its own, so each imports its framework itself.
"""

import io
import tempfile

from bach_keras.packed_kernels import keep_packed_kernels

THREADS = 2
SIDE, BATCH, CLASSES = 224, 10, 2
RATE, MOMENTUM = 1e-3, 0.9

STEP = f"training step, {BATCH} images"
FROZEN_STEP = f"training step, {BATCH} images, frozen trunk"
ONE = "inference, 1 image"
TEN = f"inference, {BATCH} images"
GROUPED = f"one grouped convolution and its gradient, {BATCH} images of 56x56x128"


def _tensorflow():
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(THREADS)
    tf.config.set_visible_devices([], "GPU")
    return tf


def _batch(count=BATCH):
    import numpy as np

    images = np.random.default_rng(0).normal(size=(count, SIDE, SIDE, 3)).astype("float32")
    return images, np.arange(count) % CLASSES


def ours(job, half=False):
    """This project's network, as training and the export run it."""
    if job in (ONE, TEN):
        # As deploy/ sets it for TF Serving.
        keep_packed_kernels()
    tf = _tensorflow()
    import keras
    import numpy as np

    from bach_keras.network.convolution import Convolution
    from bach_keras.network.fold import fold
    from bach_keras.network.resnext import resnext50
    from callbacks.fused_sgd import FusedSGD
    from callbacks.layer_groups import freeze

    if job == GROUPED:
        return None if half else _layer_with_gradient(tf, Convolution(128, 3, groups=32))
    if half and job not in (ONE, TEN):
        keras.config.set_dtype_policy("mixed_bfloat16")
    model = resnext50((SIDE, SIDE, 3), include_top=True, classes=CLASSES)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            # TensorFlow would leave out biases that are all zero.
            layer.set_weights([np.random.default_rng(0).uniform(0.2, 0.8, part.shape) for part in layer.weights])
    if job in (ONE, TEN):
        folded = fold(model, precision="bfloat16" if half else None)
        return _served(tf, folded, _batch(1 if job == ONE else BATCH)[0])
    if job == FROZEN_STEP:
        freeze(model, [model.layer_groups["trunk"]])
        model = fold(model, where=lambda norm: not norm.trainable)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(FusedSGD(RATE, momentum=MOMENTUM), loss, jit_compile=False)
    images, labels = _batch()
    return lambda: model.train_on_batch(images, labels)


def _served(tf, network, images):
    """Save a network and run it as TF Serving does, in a session on the saved graph.

    One thread takes the operations in turn: the network is a chain.
    """
    module = tf.Module()
    module.weights = [weight.value for weight in network.weights]
    signature = [tf.TensorSpec((None, *images.shape[1:]), tf.float32)]
    module.serve = tf.function(
        lambda batch: network(tf.cast(batch, network.input.dtype), training=False), input_signature=signature
    )
    v1 = tf.compat.v1
    options = v1.ConfigProto(intra_op_parallelism_threads=THREADS, inter_op_parallelism_threads=1)
    session = v1.Session(graph=tf.Graph(), config=options)
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures=module.serve)
        with session.graph.as_default():
            loaded = v1.saved_model.load(session, ["serve"], folder)
    served = loaded.signature_def["serving_default"]
    (given,), (answer,) = served.inputs.values(), served.outputs.values()
    run = session.make_callable(answer.name, [given.name])
    return lambda: run(images)


def keras_layer(job):
    """Keras's own grouped convolution, for the one job that shows why it is not used."""
    if job != GROUPED:
        return None
    tf = _tensorflow()
    import keras

    return _layer_with_gradient(tf, keras.layers.Conv2D(128, 3, padding="same", groups=32, use_bias=False))


def _layer_with_gradient(tf, layer):
    images = tf.random.stateless_normal((BATCH, 56, 56, 128), (0, 0))
    layer.build(images.shape)

    @tf.function
    def run():
        with tf.GradientTape() as tape:
            tape.watch(images)
            loss = tf.reduce_sum(layer(images) ** 2)
        return tape.gradient(loss, [images, layer.kernel.value])

    return lambda: [gradient.numpy() for gradient in run()]


def pytorch(job):
    """Eager PyTorch, channels last."""
    return _pytorch(job, compiled=False)


def pytorch_compiled(job):
    """PyTorch compiled by Inductor; for inference with frozen weights, which folds and packs them."""
    return None if job == GROUPED else _pytorch(job, compiled=True)


def ours_half(job):
    """This project's network in half precision: mixed_bfloat16 in training, bfloat16 in an export."""
    return ours(job, half=True)


def pytorch_half(job):
    """Eager PyTorch under its autocast to bfloat16."""
    return None if job == GROUPED else _pytorch(job, compiled=False, half=True)


def _pytorch(job, compiled, half=False):
    import torch
    from torch import nn

    from benchmarks.torch_resnext import TorchResNeXt

    torch.set_num_threads(THREADS)
    if job == GROUPED:
        layer = nn.Conv2d(128, 128, 3, padding=1, groups=32, bias=False).to(memory_format=torch.channels_last)
        images = torch.randn(BATCH, 128, 56, 56).contiguous(memory_format=torch.channels_last).requires_grad_()
        return lambda: torch.autograd.grad((layer(images) ** 2).sum(), [images, layer.weight])
    model = TorchResNeXt(CLASSES).to(memory_format=torch.channels_last)

    def cast():
        return torch.autocast("cpu", torch.bfloat16, enabled=half)

    if job in (ONE, TEN):
        model.eval()
        if compiled:
            import torch._inductor.config

            torch._inductor.config.freezing = True
            model = torch.compile(model)
        images = torch.tensor(_batch(1 if job == ONE else BATCH)[0]).permute(0, 3, 1, 2)

        def infer():
            with torch.inference_mode() if not compiled else torch.no_grad(), cast():
                return model(images).float().numpy()

        return infer
    images, labels = map(torch.tensor, _batch())
    images = images.permute(0, 3, 1, 2)
    if job == FROZEN_STEP:
        _freeze_trunk(model)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, RATE, momentum=MOMENTUM)
    network = torch.compile(model) if compiled else model

    def step():
        optimizer.zero_grad()
        with cast():
            loss = nn.functional.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def _freeze_trunk(model):
    for part in (model.conv1, model.bn1, model.layer1, model.layer2):
        part.requires_grad_(False)
        part.eval()


def onnx_runtime(job):
    """ONNX Runtime on the network that PyTorch exports, all its graph optimisations on."""
    if job not in (ONE, TEN):
        return None
    import onnxruntime
    import torch

    from benchmarks.torch_resnext import TorchResNeXt

    images = _batch(1 if job == ONE else BATCH)[0].transpose(0, 3, 1, 2).copy()
    file = io.BytesIO()
    program = torch.onnx.export(TorchResNeXt(CLASSES).eval(), (torch.tensor(images),), dynamo=True, verbose=False)
    program.save(file)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: images})[0]


SIDES = {
    "ours": ours, "PyTorch": pytorch, "PyTorch compiled": pytorch_compiled, "ONNX Runtime": onnx_runtime,
    "Keras": keras_layer, "ours bf16": ours_half, "PyTorch bf16": pytorch_half,
}  # fmt: skip
