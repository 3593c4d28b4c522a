"""Do the maps show what answers rest on, and what do they cost: ``python -m benchmarks.explanations --model EXPORT``.

Deletion (Petsiuk et al. 2018): pixels of the square are replaced by its mean colour, those first where carci's map is
largest, and carci's probability of the class that it answered is read after each share. A map that shows what the
answer rests on makes it fall faster than the same map with its cells shuffled, which removes places of the same form
elsewhere, and faster than the map upside down (the smallest values first). The images are phantoms of patients that no
data set has. The cost is an answer of ``explain`` against one of ``serving_default``, alternating.
"""

import argparse
import statistics
import time

import numpy as np

from bach_keras.packed_kernels import keep_packed_kernels

SHARES = (0.1, 0.2, 0.3, 0.5, 0.7)


def orders(found, picture, size, draws):
    """Return name -> float [size, size]: the larger, the earlier a pixel is removed."""
    from bach_keras.evidence import overlay

    shuffled = draws.permutation(found.ravel()).reshape(found.shape)
    maps = {"map": found, "shuffled": shuffled, "upside down": -found}
    return {name: overlay.in_place(each, picture, size)[0] for name, each in maps.items()}


def deleted(square, order) -> list[np.ndarray]:
    """Return the square with growing shares of it replaced by its mean colour."""
    ranked, colour = np.argsort(-order, axis=None, kind="stable"), square.mean(axis=(0, 1)).round()
    made = []
    for share in SHARES:
        flat = square.reshape(-1, 3).copy()
        flat[ranked[: round(share * len(ranked))]] = colour
        made.append(flat.reshape(square.shape))
    return made


def curves(export, count, seed):
    """Return name -> float [images, shares], carci's probability of its answer, relative to before."""
    from bach_keras.evidence.overlay import Picture
    from bach_keras.preprocess import square
    from datasets import phantom
    from datasets.labels import CLASSES

    draws, size, found = np.random.default_rng(seed), export.side, {}
    for number in range(count):
        image = phantom.draw(CLASSES[number % 4], phantom.PATIENTS + 10 + number, 0)
        seen = square(image, size).numpy()
        answers = {name: np.asarray(value) for name, value in export.explain([seen]).items()}
        answered = answers["carci"][0].argmax()
        if not answers["carci_map"].any():
            continue
        for name, order in orders(answers["carci_map"][0], Picture(seen, size, size), size, draws).items():
            after = np.asarray(export.images(np.stack(deleted(seen, order)))["carci"])[:, answered]
            found.setdefault(name, []).append(after / answers["carci"][0, answered])
    return {name: np.array(each) for name, each in found.items()}


def cost(export, rounds) -> dict[str, list[float]]:
    """Return name -> milliseconds of one image."""
    from bach_keras.serving.images import as_png
    from datasets import phantom

    png = [as_png(export.prepared(phantom.draw("benign", phantom.PATIENTS, 0)))]
    sides, taken = {"serving_default": export.encoded, "explain": export.explain}, {}
    for number in range(rounds + 2):
        for name, answer in sides.items():
            start = time.perf_counter()
            np.asarray(answer(png)["probabilities"])
            if number >= 2:  # the first two are a warm-up
                taken.setdefault(name, []).append(1e3 * (time.perf_counter() - start))
    return taken


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--count", type=int, default=40, help="phantoms")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    keep_packed_kernels()
    from bach_keras.serving.exported import Export

    export = Export(given.model)
    found = curves(export, given.count, given.seed)
    print(f"{len(found['map'])} phantoms, {export.side} pixels; carci's probability relative to before")
    print("removed      " + "  ".join(f"{share:5.0%}" for share in SHARES) + "   mean")
    for name, each in found.items():
        print(f"{name:12} " + "  ".join(f"{value:5.3f}" for value in each.mean(axis=0)) + f"  {each.mean():5.3f}")
    for name in ("shuffled", "upside down"):
        lead = (found[name] - found["map"]).mean(axis=1)
        error = lead.std(ddof=1) / np.sqrt(len(lead))
        print(f"{name} minus map: {lead.mean():+.3f}, standard error {error:.3f}; {np.mean(lead > 0):.0%} above 0")
    for name, each in cost(export, given.rounds).items():
        low, middle, high = np.percentile(each, [10, 50, 90])
        print(f"{name:16} {middle:.0f} ms an image (10 % to 90 %: {low:.0f} to {high:.0f})")
    taken = cost(export, given.rounds)
    ratio = statistics.median(b / a for a, b in zip(taken["serving_default"], taken["explain"], strict=True))
    print(f"explain / serving_default, again: {ratio:.2f}")


if __name__ == "__main__":
    main()
