"""What a calibration promises, held to phantoms of patients that no data set has.

``python -m benchmarks.fresh_phantoms --carci RUN --norbe RUN --invis RUN --calibrated FILE [--patients 100]``
draws five images of each patient and prints, in Markdown: log loss, Brier score and calibration error before and after
the temperatures, how many images the prediction sets cover, and how many of the wrong answers are called unsure.
"""

import argparse
import hashlib
from types import SimpleNamespace

import tensorflow as tf

from bach_keras.calibration import Calibration
from bach_keras.evidence.predictions import as_csv, parse
from bach_keras.evidence.rows import answer
from bach_keras.evidence.scoring import accuracy_in_words, score
from bach_keras.hierarchy import Hierarchy
from bach_keras.members import load_members
from bach_keras.tree import NODES
from datasets import phantom
from datasets.labels import CLASSES, LABELS


def fresh(patients: int) -> SimpleNamespace:
    """Return phantoms of patients behind the data set's last one, in the form of a SplitData."""
    labels = {
        phantom.filename(CLASSES[patient % 4], patient, index): CLASSES[patient % 4]
        for patient in range(phantom.PATIENTS, phantom.PATIENTS + patients)
        for index in range(phantom.IMAGES_PER_PATIENT)
    }

    def images(names):
        def drawn():
            for name in names:
                yield {"image": phantom.draw_named(name), "label": LABELS.index(labels[name]), "filename": name}

        shape = tf.TensorSpec((phantom.HEIGHT, phantom.WIDTH, 3), tf.uint8)
        kinds = {"image": shape, "label": tf.TensorSpec((), tf.int64), "filename": tf.TensorSpec((), tf.string)}
        return tf.data.Dataset.from_generator(drawn, output_signature=kinds)

    # A phantom follows from its name.
    digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in labels}
    groups = {name: name.split("-")[2] for name in labels}
    return SimpleNamespace(prepared=SimpleNamespace(digests=digests), groups=groups, labels=labels, images=images)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for node in NODES:
        parser.add_argument(f"--{node}", action="append", required=True, metavar="RUN")
    parser.add_argument("--calibrated", required=True, metavar="FILE")
    parser.add_argument("--patients", type=int, default=100, help="a quarter of each class, five images each (100)")
    given = parser.parse_args()
    calibration = Calibration.read(given.calibrated)
    members = load_members({node: tuple(getattr(given, node)) for node in NODES}, calibration.views)
    tree = Hierarchy(members, views=calibration.views, calibration=calibration)
    images = fresh(given.patients)
    result = score(parse(as_csv(answer(tree, images, list(images.labels)), tree.digest), "the answers"))

    print(f"{accuracy_in_words(result)}\n\n| | log loss | Brier score | calibration error |\n|---|---|---|---|")
    for name, before in result["uncalibrated"].items():
        after = result if name == "system" else result["nodes"][name]
        cells = (f"{before[key]:.3f} to {after[key]:.3f}" for key in ("log_loss", "brier", "calibration_error"))
        print(f"| {name} | {' | '.join(cells)} |")
    print("\n| level | covered | 95 % interval | mean size |\n|---|---|---|---|")
    for level, found in result["sets"].items():
        low, high = found["covered_ci95"]
        print(f"| {level} | {found['covered']:.3f} | {low:.3f} to {high:.3f} | {found['mean_size']:.2f} |")
    doubt = result["unsure"]
    print(
        f"\nunsure: {doubt['share']:.1%} of the images, and {doubt['errors_unsure']} of {doubt['errors']} wrong answers"
    )


if __name__ == "__main__":
    main()
