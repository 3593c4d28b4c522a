"""The page's first answer beside ``predict``'s: ``python -m benchmarks.page EXPORT [--rounds 15] IMAGE...``.

Each round answers every image once by ``predict`` and once by the page, alternating, in one process whose model has
answered before; the page also draws the image, its maps and its neighbours, and their HTML. With ``--evaluation`` the
report of that folder is written again, and how long that takes is printed.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from bach_keras.packed_kernels import keep_packed_kernels


def timed(function) -> float:
    """Return the milliseconds that a call takes."""
    started = time.perf_counter()
    function()
    return 1000 * (time.perf_counter() - started)


def compare(folder: Path, images: list[Path], rounds: int) -> None:
    from bach_keras.serving.app.answers import Answers
    from bach_keras.serving.app.detail import detail
    from bach_keras.serving.exported import Export
    from bach_keras.serving.predict import predict_files

    started = time.perf_counter()
    export = Export(folder)
    loaded = time.perf_counter()
    answers = Answers(export)
    answers.warm_up()
    print(f"loaded in {loaded - started:.1f} s, ready {time.perf_counter() - loaded:.1f} s later")

    def page(path):
        (answer,) = next(answers.answer([(path, path.name)]))
        detail(answer, export.side)

    asked = {"predict": lambda path: list(predict_files(export, [path])), "page": page}
    times = {name: [] for name in asked}
    for number in range(rounds + 1):
        for path in images:
            for name, ask in asked.items():
                taken = timed(lambda ask=ask, path=path: ask(path))
                if number:  # the first round packs kernels
                    times[name].append(taken)
    ratios = sorted(page / plain for page, plain in zip(times["page"], times["predict"], strict=True))
    for name, each in times.items():
        print(f"{name}: {statistics.median(each):.0f} ms an image (n = {len(each)})")
    low, high = ratios[len(ratios) // 20], ratios[-1 - len(ratios) // 20]
    print(f"page / predict: {statistics.median(ratios):.2f} ({low:.2f} to {high:.2f}, the middle nine tenths)")


def write_again(folder: Path) -> None:
    from bach_keras.evidence.predictions import FILE, read_predictions
    from bach_keras.evidence.report import write_report
    from bach_keras.fields import read_object
    from bach_keras.members import run_folder

    def write():
        result, rows = read_object(folder / "metrics.json"), read_predictions(folder / FILE).rows
        runs = [run_folder(spec) for spec in result["members"]]
        write_report(Path(place) / "report.html", result, rows, runs, {})

    with tempfile.TemporaryDirectory() as place:
        print(f"the report, without pictures of wrong answers: {timed(write) / 1000:.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__.splitlines()[0])
    parser.add_argument("export", type=Path)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--evaluation", type=Path, help="the folder of an evaluation, such as runs/demo")
    asked = parser.parse_args()
    keep_packed_kernels()
    compare(asked.export, asked.images, asked.rounds)
    if asked.evaluation:
        write_again(asked.evaluation)


if __name__ == "__main__":
    main()
