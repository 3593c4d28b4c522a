"""What the tree costs compared with one network: ``python -m benchmarks.tree [--rounds 10] [--size 288]``.

Every form is saved and run as TF Serving does, in a session on the saved graph; they alternate on the same batch of
eight images, so that a drift of the machine's speed affects them alike. The weights are random, the trunks shared as
the recipe shares them; carci's answers are set to send half of the images to each specialist.
"""

import argparse
import math
import multiprocessing
import os
import statistics
import tempfile
import timeit
from concurrent.futures import ProcessPoolExecutor

BATCH, THREADS, WARM_UP = 8, 2, 2
ONE, SOFT, ROUTED = "one network", "tree, soft", "tree, routed"
TEN, APART = "ten members, soft", "three networks apart"
ENSEMBLE = {"carci": 4, "norbe": 3, "invis": 3}


def members(counts, size, images):
    """Return members with random weights on one trunk, and carci's answers balanced on the images."""
    import keras
    import numpy as np

    from bach_keras import preprocess
    from bach_keras.hierarchy import Member
    from bach_keras.network.head import Classifier

    made = []
    generator = np.random.default_rng(0)
    for node, count in counts.items():
        for number in range(count):
            keras.utils.set_random_seed(len(made))
            model = Classifier(size)
            for layer in model.layers:
                if isinstance(layer, keras.layers.BatchNormalization):
                    # TensorFlow would leave out biases that are all zero.
                    layer.set_weights([generator.uniform(0.2, 0.8, part.shape) for part in layer.weights])
            if made:
                trunk = keras.Model(model.input, model.get_layer(model.trunk_output).output)
                donor = keras.Model(made[0].model.input, made[0].model.get_layer(model.trunk_output).output)
                trunk.set_weights(donor.get_weights())
            if node == "carci":
                logits = np.asarray(model(preprocess.normalise(images), training=False))
                bias = model.layers[-1].bias
                bias.assign(bias + np.array([0, np.median(logits[:, 0] - logits[:, 1])], np.float32))
            made.append(Member(node=node, model=model, view=preprocess.View(size), source=f"{node} {number}"))
    return made


def multiply_adds(model, until=None) -> int:
    """Return the multiply-adds of a ``Classifier``'s convolutions and dense layers, up to a layer, for one image."""
    total = 0
    for layer in model.layers:
        kernel = getattr(layer, "kernel", None)
        if kernel is not None:
            places = 1 if len(kernel.shape) == 2 else layer.output.shape[1] * layer.output.shape[2]
            # A grouped kernel holds only its own group's inputs, so its size counts right.
            total += places * math.prod(kernel.shape)
        if layer.name == until:
            break
    return total


def save(run, weights, folder):
    """Save a function of uint8 images as a SavedModel."""
    import tensorflow as tf

    module = tf.Module()
    module.weights = weights
    module.serve = tf.function(run, input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8, "images")])
    tf.saved_model.save(module, folder, signatures=module.serve)


def load(folder, images):
    """Load a SavedModel into a session, and return a callable that runs it on the images."""
    import tensorflow as tf

    v1 = tf.compat.v1
    options = v1.ConfigProto(intra_op_parallelism_threads=THREADS, inter_op_parallelism_threads=1)
    session = v1.Session(graph=tf.Graph(), config=options)
    with session.graph.as_default():
        loaded = v1.saved_model.load(session, ["serve"], folder)
    signature = loaded.signature_def["serving_default"]
    call = session.make_callable([signature.outputs["probabilities"].name], [signature.inputs["images"].name])
    return lambda: call(images)


def single(member, size):
    """Return one network in the same form: preprocessing inside, batch norm folded, and its weights."""
    import tensorflow as tf

    from bach_keras import preprocess
    from bach_keras.network.fold import fold

    network = fold(member.model)

    def run(images):
        inputs = preprocess.normalise(preprocess.square(images, size))
        return {"probabilities": tf.nn.softmax(network(inputs, training=False))}

    return run, [weight.value for weight in network.weights]


def build(size, images, place) -> dict[str, int]:
    """Save every form under its name; return name -> multiply-adds an image."""
    from bach_keras.hierarchy import Hierarchy

    parts = members(ENSEMBLE, size, images)
    first = {node: next(member for member in parts if member.node == node) for node in ENSEMBLE}
    model = first["carci"].model
    network, trunk = multiply_adds(model), multiply_adds(model, model.trunk_output)
    rest = network - trunk
    tree, ensemble = Hierarchy(list(first.values())), Hierarchy(parts)
    save(tree.images, tree._weights, f"{place}/{SOFT}")
    save(tree.routed, tree._weights, f"{place}/{ROUTED}")
    save(ensemble.images, ensemble._weights, f"{place}/{TEN}")
    for node, member in first.items():
        save(*single(member, size), f"{place}/{node}")
    return {ONE: network, SOFT: trunk + 3 * rest, ROUTED: trunk + 2 * rest, TEN: trunk + 10 * rest, APART: 3 * network}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10, help="turns of each form (10)")
    parser.add_argument("--size", type=int, default=288, help="side of the images in pixels (288)")
    given = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import numpy as np

    images = np.random.default_rng(1).integers(0, 256, (BATCH, given.size, given.size, 3)).astype(np.uint8)
    with tempfile.TemporaryDirectory() as place:
        # A process of its own frees its gigabytes when it ends.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            counts = pool.submit(build, given.size, images, place).result()
        runs = {name: load(f"{place}/{name}", images) for name in (SOFT, ROUTED, TEN)}
        apart = [load(f"{place}/{node}", images) for node in ENSEMBLE]
        runs |= {ONE: apart[0], APART: lambda: [run() for run in apart]}
        seconds = {name: [] for name in counts}
        for number in range(WARM_UP + given.rounds):
            for name in counts:
                taken = timeit.timeit(runs[name], number=1)
                if number >= WARM_UP:
                    seconds[name].append(taken)
    print(f"{given.size}x{given.size}, batches of {BATCH}, float32, medians of {given.rounds} alternating rounds\n")
    print("| form | multiply-adds an image | of one network's | ms an image | of its time: min - median - max |")
    print("|---|---|---|---|---|")
    for name, values in seconds.items():
        print(
            f"| {name} | {counts[name] / 1e9:.2f} G | {counts[name] / counts[ONE]:.2f} | "
            f"{1000 * statistics.median(values) / BATCH:.0f} | {ratios(values, seconds[ONE])} |"
        )
    print(f"\nThe soft tree takes {ratios(seconds[SOFT], seconds[APART])} of the time of three networks apart.")


def ratios(values, others) -> str:
    ratios = [one / other for one, other in zip(values, others, strict=True)]
    return f"{min(ratios):.2f} - **{statistics.median(ratios):.2f}** - {max(ratios):.2f}"


if __name__ == "__main__":
    main()
