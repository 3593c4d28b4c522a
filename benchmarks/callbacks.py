"""What a training's callbacks cost: ``python -m benchmarks.callbacks [--rounds 5] [--steps 26] [--only NETWORK]``.

Epochs of the same model with and without them alternate, so that a drift of the machine's speed affects them alike. The
callbacks' own time is measured too, since a machine's noise is often above it. The epoch is as long as that of BACH's
patient split, without validation. So each epoch is the best, whose weights are kept, and the figure is the most that
the callbacks can cost. Run it on an idle machine.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

TINY = {"blocks": (1, 1, 1, 1), "cardinality": 2, "base_width": 4, "stem": 8}
NETWORKS = {"tiny": {"image_size": 32, "backbone": TINY}, "ResNeXt-50": {}}
SHOWN = 8


class Training:
    """The last phase of training a node on random images, with a run in an empty folder."""

    def __init__(self, network: str, steps: int, folder: Path):
        import numpy as np
        import tensorflow as tf

        from bach_keras.recipe import Recipe
        from bach_keras.training.building import network as network_of
        from bach_keras.training.building import seed_everything
        from bach_keras.training.fit import compiled
        from bach_keras.training.phases import phases
        from bach_keras.training.start import Start

        recipe = Recipe(**NETWORKS[network])
        phase = phases(recipe, Start("imagenet", weights=Path("any")))[-1]
        seed_everything(recipe.seed)
        self.network = network_of(recipe)
        self.model = compiled(self.network, phase, recipe)
        self.steps, self.epochs = steps, 0
        side = recipe.image_size
        images = np.random.default_rng(0).normal(size=(recipe.batch_size, side, side, 3)).astype("float32")
        self.batches = tf.data.Dataset.from_tensors((images, np.arange(recipe.batch_size) % 2)).repeat(steps)
        self.callbacks = self._callbacks(recipe, phase, folder)

    def _callbacks(self, recipe, phase, folder):
        import numpy as np

        from bach_keras import preprocess
        from bach_keras.run_folder import Run
        from bach_keras.training.checkpoint import Checkpoint, Progress, SeedDropout
        from bach_keras.training.stops import StopAtDivergence
        from callbacks.sgdr import SGDR
        from callbacks.tensorboard import TensorBoard

        run = Run.create(folder, {})
        shown = np.zeros((SHOWN, recipe.image_size, recipe.image_size, 3), np.uint8)
        return [
            SeedDropout(recipe.seed, self.steps),
            SGDR(1e-6, self.steps * phase.cycle_epochs, 100, 1),
            StopAtDivergence(run, self.steps),
            Checkpoint(run, self.network, Progress(phase=phase.name), {}),
            TensorBoard(
                folder / "tensorboard", phase.rates, images=shown, class_names=("a", "b"),
                preprocess=preprocess.normalise, from_logits=True,
            ),
        ]  # fmt: skip

    def epoch(self, callbacks) -> float:
        """Train for an epoch and return its seconds a step."""
        start = time.perf_counter()
        self.model.fit(
            self.batches, initial_epoch=self.epochs, epochs=self.epochs + 1, shuffle=False, verbose=0,
            callbacks=callbacks,
        )  # fmt: skip
        self.epochs += 1
        return (time.perf_counter() - start) / self.steps

    def hooks(self) -> float:
        """Return the seconds a step that the callbacks take for an epoch, no step being trained."""
        import keras

        hooks = keras.callbacks.CallbackList(self.callbacks, model=self.model)
        hooks.on_train_begin()
        start = time.perf_counter()
        hooks.on_epoch_begin(self.epochs)
        for step in range(self.steps):
            hooks.on_train_batch_begin(step)
            hooks.on_train_batch_end(step, {"loss": 0.5, "accuracy": 0.5})
        hooks.on_epoch_end(self.epochs, {"loss": 0.5, "accuracy": 0.5})
        seconds = time.perf_counter() - start
        hooks.on_train_end()
        return seconds / self.steps


def row(network: str, rounds: int, steps: int) -> str:
    """Measure a network and return its line of the table."""
    without, with_all, alone = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        training = Training(network, steps, Path(folder))
        training.epoch([]), training.epoch(training.callbacks)
        for _ in range(rounds):
            without.append(training.epoch([]))
            with_all.append(training.epoch(training.callbacks))
            alone.append(training.hooks())
    ratios = [one / other for one, other in zip(with_all, without, strict=True)]
    # The mean, as not every epoch does the same: images are shown in one of five.
    step, own = statistics.median(without), statistics.mean(alone)
    spread = f"{min(ratios):.3f} - **{statistics.median(ratios):.3f}** - {max(ratios):.3f}"
    milliseconds = f"{1000 * step:.1f} | {1000 * statistics.median(with_all):.1f} | {1000 * own:.2f}"
    return f"| {network} | {milliseconds} | {100 * own / step:.2f} % | {spread} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="epochs with and without (5)")
    parser.add_argument("--steps", type=int, default=26, help="steps an epoch (26)")
    parser.add_argument("--only", choices=NETWORKS, help="one network")
    given = parser.parse_args()
    if given.rounds < 1 or given.steps < 1:
        parser.error("--rounds and --steps must be at least 1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    print(f"Milliseconds a step, medians of {given.rounds} alternating epochs of {given.steps} steps\n")
    print("| network | without callbacks | with | the callbacks' own | share | with / without: min - median - max |")
    print("|---|---|---|---|---|---|")
    for network in NETWORKS:
        if given.only in (None, network):
            print(row(network, given.rounds, given.steps), flush=True)


if __name__ == "__main__":
    main()
