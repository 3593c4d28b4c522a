"""`bulk` measured: ``python -m benchmarks.bulk --model EXPORT --rates 3 --cluster 10000 --kills 10 --list 10000000``.

Each part prints a table or a line. All of it runs in a network namespace of its own, and so as root.
"""

import argparse
import json
import logging
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image

from benchmarks.two_machines import ADDRESS, alone, two_machines
from datasets import phantom
from datasets.labels import CLASSES

ROOT = Path(__file__).parents[1]
# Distinct images; a list of more names the same again under other names.
DISTINCT = 64


def draw(place: Path, count: int) -> Path:
    """Put so many PNGs of 384x288 into a folder, of which only the first are distinct."""
    place.mkdir(parents=True)
    for number in range(count):
        path = place / f"{number:06d}.png"
        if number < DISTINCT:
            Image.fromarray(phantom.draw(CLASSES[number % 4], 900 + number // 4, 0)).save(path)
        else:
            os.link(place / f"{number % DISTINCT:06d}.png", path)
    return place


def command(model, source, out, *others) -> list[str]:
    words = [sys.executable, "cli.py", "bulk", "--model", model, "--input", source, "--out", out, *others]
    return [str(word) for word in words]


def run(words: list[str], cores: str | None = None) -> float:
    """Run a command to its end, perhaps on some cores; return the seconds that it took."""
    pinned = ["taskset", "-c", cores] if cores else []
    started = time.monotonic()
    done = subprocess.run([*pinned, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return time.monotonic() - started


def answers(out: Path) -> list[dict]:
    return [row for path in sorted(out.glob("part-*.parquet")) for row in pq.read_table(path).to_pylist()]


def worst(first: list[dict], second: list[dict]) -> float:
    """Return the largest difference of two runs' probabilities; all else must be equal."""
    numbers = [name for name in first[0] if name.startswith(("probabilities.", "nodes.")) or name == "distance"]
    largest = 0.0
    for one, other in zip(first, second, strict=True):
        assert all(one[name] == other[name] for name in ("path", "digest", "label", "unsure", "set", "error"))
        pairs = [(one[name], other[name]) for name in numbers]
        largest = max([largest, *(abs(a - b) for a, b in pairs if a is not None)])
    return largest


def rates(model, images: Path, place: Path, rounds: int) -> None:
    """Images a second of one worker on one core, two on two, and predict on two; start-up is measured apart."""
    few = draw(place / "few", 8)
    count = len(list(images.iterdir()))
    predict = [sys.executable, "cli.py", "predict", "--model", str(model), "--format", "csv"]
    sides = {
        "bulk, one worker on one core": ("0", lambda source, out: command(model, source, out, "--workers", "1")),
        "bulk, two workers on two": ("0,1", lambda source, out: command(model, source, out, "--workers", "2")),
        "predict on two": ("0,1", lambda source, out: [*predict, str(source)]),
    }
    found = {name: [] for name in sides}
    for number in range(rounds):
        for name, (cores, words) in sides.items():
            seconds = [
                run(words(source, place / f"rate-{number}-{name}-{source.name}"), cores) for source in (few, images)
            ]
            found[name].append((count - 8) / (seconds[1] - seconds[0]))
    print("| side | images/s | of one worker's: each round |\n|---|---|---|")
    one = found["bulk, one worker on one core"]
    for name, values in found.items():
        ratios = " - ".join(f"{value / base:.2f}" for value, base in sorted(zip(values, one, strict=True)))
        print(f"| {name} | {sorted(values)[len(values) // 2]:.1f} | {ratios} |")


def cluster(model, images: Path, place: Path) -> None:
    """Answer on two machines, one of which is killed on the way, and compare with an undisturbed run."""
    undisturbed, killed = place / "undisturbed", place / "killed"
    count = len(list(images.iterdir()))
    with two_machines(place / "ray") as machines:
        seconds = run(command(model, images, undisturbed, "--address", ADDRESS))
        print(f"two machines of one core each: {count} images in {seconds:.0f} s")
        words = command(model, images, killed, "--address", ADDRESS)
        started = time.monotonic()
        with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            while process.poll() is None and len(list(killed.glob("part-*"))) < 2:
                time.sleep(0.2)
            print(f"killed {machines.kill_other()} processes of the second after {time.monotonic() - started:.0f} s")
            said = process.communicate()[0]
        print(f"ended with {process.returncode} after {time.monotonic() - started:.0f} s, and said:\n{said}")
    rows = answers(killed)
    assert len(rows) == count == len({row["path"] for row in rows})
    print(f"{len(rows)} rows, each image once; largest difference {worst(answers(undisturbed), rows):.3g}")


def kills(model, images: Path, place: Path, count: int) -> None:
    """Kill the command at random moments, run it again until it ends by itself, and compare."""
    undisturbed = place / "whole"
    run(command(model, images, undisturbed, "--shard-size", "8"))
    shards = len(_shards(undisturbed))
    draws, largest, times = random.Random(0), 0.0, 0
    for number in range(count):
        out = place / f"kill-{number}"
        words = command(model, images, out, "--shard-size", "8")
        with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            # Nearly all of so short a run is start-up, so the moment is drawn by the shards that are there.
            wanted = draws.randrange(shards)
            while process.poll() is None and len(list(out.glob("part-*"))) < wanted:
                time.sleep(0.01)
            try:
                process.wait(draws.uniform(0, 0.3))
            except subprocess.TimeoutExpired:
                os.kill(process.pid, signal.SIGKILL)
                times += 1
        before = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*")} if out.exists() else {}
        recorded = [each["name"] for each in _shards(out)]
        run(words)
        after = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*")}
        assert all(before[name] == after[name] for name in recorded), "a shard was written twice"
        largest = max(largest, worst(answers(undisturbed), answers(out)))
        print(f"kill {number}: {len(recorded)} of {len(after)} shards were there, and stayed", flush=True)
    print(f"{times} of {count} killed; {count} equal finishes; largest difference {largest:.3g}")


def _shards(out: Path) -> list[dict]:
    path = out / "manifest.json"
    return json.loads(path.read_text())["shards"] if path.exists() else []


def long_list(place: Path, count: int) -> None:
    """Take in a list of so many paths, a tenth of a percent of them doubles, and say what memory that takes."""
    from bach_keras.serving.bulk.inputs import names_between, write_inputs
    from bach_keras.serving.bulk.shards import Todo, shard_size

    place.mkdir()
    source = place / "list.txt"
    with source.open("w") as file:
        for number in range(count):
            double = number - 7 if number % 1000 == 999 else number
            file.write(f"/archive/patient-{double % 9973:05d}/slide-{double:08d}.tif\n")
    before, started = _memory(), time.monotonic()
    inputs = write_inputs(str(source), place / "inputs")
    size = shard_size(inputs.count, 8)
    offsets = inputs.offsets(size)
    taken = time.monotonic() - started
    todo = Todo(inputs.path, tuple(offsets), 8, tuple((number, None) for number in range(len(offsets) - 1)))
    started = time.monotonic()
    names = sum(len(block.names) for block in todo.blocks())
    assert names == inputs.count
    assert inputs.doubles == count // 1000
    last = names_between(inputs.path, *offsets[-2:])[-1]
    print(
        f"{count} paths, {inputs.doubles} doubles: taken in in {taken:.0f} s, gone through in "
        f"{time.monotonic() - started:.0f} s; {len(offsets) - 1} shards of {size}, the last path {last}; memory "
        f"{_memory():.0f} MB at most, {before:.0f} before"
    )


def _memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def objects(model, images: Path, place: Path) -> None:
    """Answer for a bucket of a local server that speaks S3 (moto), and compare with the files."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 5555, verbose=False)
    server.start()
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ |= keys | {"AWS_ENDPOINT_URL": "http://127.0.0.1:5555"}
    client = boto3.client("s3")
    client.create_bucket(Bucket="archive")
    for path in sorted(images.iterdir())[:40]:
        client.upload_file(str(path), "archive", f"a folder/{path.name}")
    client.put_object(Bucket="archive", Key="a folder/broken.png", Body=b"\x89PNG\r\n\x1a\n")
    out, local = place / "objects", place / "local"
    words = command(model, "s3://archive/a folder", out)
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    server.stop()
    rows = answers(out)
    assert done.returncode == 1, done.stdout + done.stderr
    few = place / "few-of-them"
    few.mkdir()
    for path in sorted(images.iterdir())[:40]:
        shutil.copy2(path, few)
    run(command(model, few, local))
    good = [row | {"path": Path(row["path"]).name} for row in rows if not row["error"]]
    wanted = [row | {"path": Path(row["path"]).name} for row in answers(local)]
    (broken,) = [row["error"] for row in rows if row["error"]]
    print(f"{len(good)} objects, largest difference from files {worst(good, wanted):.3g}; and: {broken}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="an export")
    parser.add_argument("--rates", type=int, default=0, metavar="ROUNDS")
    parser.add_argument("--images", type=int, default=400, help="of the rates and kills")
    parser.add_argument("--cluster", type=int, default=0, metavar="IMAGES", help="such as 10000")
    parser.add_argument("--kills", type=int, default=0, metavar="KILLS", help="such as 10")
    parser.add_argument("--list", type=int, default=0, metavar="PATHS", help="such as 10000000")
    parser.add_argument("--objects", action="store_true")
    asked = parser.parse_args()
    if os.environ.get("BULK_ALONE") != "1":
        words = [sys.executable, "-m", "benchmarks.bulk", *sys.argv[1:]]
        sys.exit(subprocess.run(alone(words), env=os.environ | {"BULK_ALONE": "1"}, check=False).returncode)
    model = Path(asked.model).absolute()
    with tempfile.TemporaryDirectory(prefix="bulk-") as folder:
        place = Path(folder)
        if asked.list:
            long_list(place / "list", asked.list)
        if asked.rates:
            rates(model, draw(place / "images", asked.images), place, asked.rates)
        if asked.kills:
            kills(model, draw(place / "to-kill", asked.images), place, asked.kills)
        if asked.cluster:
            cluster(model, draw(place / "many", asked.cluster), place)
        if asked.objects:
            objects(model, draw(place / "stored", 40), place)


if __name__ == "__main__":
    main()
