"""Run folders, evaluations and exports of which a file was changed: cut, damaged, linked, made to say other things."""

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.hostile import mutations
from benchmarks.hostile.texts import TEXTS, as_name

_VALUES = (
    *TEXTS, "", 0, -1, 1.5, 10**400, 2**63, True, None, [], {}, [[]], {"a": {}}, [1, "2"], float("nan"), float("inf"),
    1e308, ["a"] * 1000, {"__class__": "x"}, "null", "x" * 100_000,
)  # fmt: skip


class Changed:
    """Copies of a folder; what is not changed is linked to the original."""

    def __init__(self, base: Path, into: Path):
        self._base, self._into = base, into
        self._files = sorted(path.relative_to(base).as_posix() for path in base.rglob("*") if path.is_file())
        self._count = 0

    def copy(self, label: str, change: Callable[[Path], None] | None = None, name: str | None = None) -> str:
        """Make a copy, change it, and return its name."""
        self._count += 1
        name = name or f"{self._count:04d} {label}".replace("/", "-")[:120]
        folder = self._into / name
        shutil.copytree(self._base, folder, copy_function=os.link)
        if change:
            change(folder)
        return name

    def damaged(self, count: int, draw: random.Random, endings=(".json", ".csv")) -> Iterator[str]:
        """Yield copies of which a file is cut, begins otherwise, or has bits flipped."""
        for file in self._files:
            if file.endswith(endings):
                for how, data in mutations.damaged((self._base / file).read_bytes(), count, draw):
                    yield self.copy(f"{how} {file}", lambda folder, file=file, data=data: put(folder / file, data))

    def linked(self, endings=("",)) -> Iterator[str]:
        """Yield copies of which a file is a link to elsewhere, a device, a pipe, a folder, or of a terabyte."""
        for file in self._files:
            if not file.endswith(tuple(endings)):
                continue
            targets = ("/dev/zero", "/dev/random", "/dev/full", "/proc/self/mem", "/nowhere", file)
            for target in targets:
                yield self.copy(f"{file} at {target}", lambda folder, f=file, t=target: link(folder / f, t))
            yield self.copy(f"{file} a pipe", lambda folder, f=file: pipe(folder / f))
            yield self.copy(f"{file} a folder", lambda folder, f=file: directory(folder / f))
            yield self.copy(f"{file} of a terabyte", lambda folder, f=file: terabyte(folder / f))
            yield self.copy(f"{file} empty", lambda folder, f=file: put(folder / f, b""))
            yield self.copy(f"{file} gone", lambda folder, f=file: (folder / f).unlink())

    def said(self, count: int, draw: random.Random, file: str) -> Iterator[str]:
        """Yield copies of which a field of a JSON file holds something hostile."""
        whole = json.loads((self._base / file).read_text())
        places = list(places_of(whole))
        for _ in range(count):
            place, value = draw.choice(places), draw.choice(_VALUES)
            changed = json.dumps(with_value(whole, place, value))
            yield self.copy(
                f"{file} {'.'.join(map(str, place))} {str(value)[:20]!r}",
                lambda folder, data=changed: put(folder / file, data.encode()),
            )

    def called(self) -> Iterator[str]:
        """Yield good copies under hostile names."""
        for text in TEXTS:
            if name := as_name(text, ""):
                try:
                    yield self.copy("", name=name)
                except (OSError, ValueError):
                    shutil.rmtree(self._into / name, ignore_errors=True)


def places_of(value, at: tuple = ()) -> Iterator[tuple]:
    """Yield the place of each field, and of a few entries of each list and of each object of many."""
    entries = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    for key, held in entries[:40]:
        yield (*at, key)
        if len(at) < 7:
            yield from places_of(held, (*at, key))


def with_value(whole, place: tuple, value):
    """Return a copy of what JSON holds, with another value at one place."""
    if not place:
        return value
    copy = dict(whole) if isinstance(whole, dict) else list(whole)
    copy[place[0]] = with_value(copy[place[0]], place[1:], value)
    return copy


def put(path: Path, data: bytes) -> None:
    path.unlink()  # or the original, which it is linked to, would change
    path.write_bytes(data)


def link(path: Path, target) -> None:
    path.unlink()
    path.symlink_to(target)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def terabyte(path: Path) -> None:
    head = path.read_bytes()[:100]
    path.unlink()
    with path.open("wb") as file:
        file.write(head)
        file.truncate(2**40)


def runs(base: Path, into: Path, count: int, seed: int) -> Iterator[str]:
    """Yield run folders: what was changed by hand, what damage does, and fields that say hostile things."""
    from tests.bach_keras import test_tampered_runs as tampered

    draw, copies = random.Random(seed), Changed(base, into)
    for table, file in ((tampered.CONFIG, "config.json"), (tampered.METRICS, "metrics.json")):
        for field, value in table:
            yield copies.copy(f"{file} {field}", lambda folder, f=file, n=field, v=value: _change(folder / f, n, v))
    for label, content in tampered.TEXTS.items():
        for file in ("config.json", "metrics.json"):
            yield copies.copy(f"{file} {label}", lambda folder, f=file, c=content: put(folder / f, c))
    for label, change in tampered.HISTORIES.items():
        yield copies.copy(f"history {label}", lambda folder, c=change: (_own(folder / "history.csv"), c(folder)))
    for label, change in tampered.ARCHIVES.items():
        yield copies.copy(
            f"model.keras {label}", lambda folder, c=change: (_own(folder / "model.keras"), c(folder / "model.keras"))
        )
    for label, change in tampered.NUMBERS.items():
        yield copies.copy(f"model.keras {label}", lambda folder, c=change: _numbers(folder / "model.keras", c))
    yield from copies.linked((".json", ".csv", ".keras"))
    yield from copies.damaged(max(1, count // 20), draw)
    yield from copies.damaged(max(1, count // 40), draw, (".keras",))
    for file in ("config.json", "metrics.json"):
        yield from copies.said(count, draw, file)
    yield from copies.called()


def _change(path: Path, field: str, value) -> None:
    from tests.bach_keras.test_tampered_runs import change_fields

    _own(path)
    change_fields(path, **{field: value})


def _own(path: Path) -> None:
    """Make a linked file one of its own."""
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data)


def _numbers(path: Path, change) -> None:
    from tests.bach_keras.test_tampered_runs import changed

    _own(path)
    changed(path, change)


def evaluations(base: Path, into: Path, count: int, seed: int) -> Iterator[str]:
    """Yield folders that ``evaluate`` wrote, changed since."""
    draw, copies = random.Random(seed), Changed(base, into)
    yield from copies.linked((".json", ".csv", ".html"))
    yield from copies.damaged(max(1, count // 10), draw)
    yield from copies.said(2 * count, draw, "metrics.json")
    for number in range(2 * count):
        value = draw.choice(TEXTS)
        yield copies.copy(f"predictions {number}", lambda folder, v=value: _cell(folder / "predictions.csv", v, draw))
    yield from copies.called()


def _cell(path: Path, value: str, draw: random.Random) -> None:
    """Put a text into a cell of a CSV file, in quotes, as its format would have it."""
    lines = path.read_text().splitlines()
    row = draw.randrange(len(lines))
    cells = lines[row].split(",")
    cells[draw.randrange(len(cells))] = '"' + value.replace('"', '""') + '"'
    lines[row] = ",".join(cells)
    put(path, ("\n".join(lines) + "\n").encode(errors="replace"))


def exports(base: Path, into: Path, count: int, seed: int) -> Iterator[str]:
    """Yield exports whose card, graph, weights or index was changed."""
    draw, copies = random.Random(seed), Changed(base, into)
    yield from copies.said(count, draw, "assets/model_card.json")
    yield from copies.damaged(1, draw, (".json", "labels.txt"))
    yield from copies.linked((".json", ".pb", ".index"))
    for file in ("saved_model.pb", "variables/variables.index"):
        whole = (base / file).read_bytes()
        for how, data in [*mutations.cut(whole), *(mutations.flipped(whole, draw) for _ in range(count // 2))]:
            yield copies.copy(f"{how} {file}", lambda folder, f=file, d=data: put(folder / f, d))
    yield from copies.called()


def reaching(base: Path, into: Path, canary: Path) -> Iterator[str]:
    """Yield exports whose graph would write or read a file, or run Python, when it answers."""
    import tensorflow as tf

    def writes(data):
        tf.io.write_file(str(canary / "ran"), data)
        return data

    reaches = {
        "writes": writes,
        "reads": lambda data: tf.io.read_file(str(canary / "secret.txt")),
        "python": lambda data: tf.numpy_function(lambda each: each, [data], tf.string),
    }
    copies = Changed(base, into)
    for name, reach in reaches.items():
        module = tf.Module()
        module.answer = _answering(reach)
        tf.saved_model.save(module, str(into / ".saved"), signatures={"serving_default": module.answer})
        made = copies.copy(f"a graph that {name}")
        put(into / made / "saved_model.pb", (into / ".saved" / "saved_model.pb").read_bytes())
        shutil.rmtree(into / ".saved")
        yield made


def _answering(reach):
    """Return a signature that lets each image go through a function."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")])
    def answer(image_bytes):
        return {"label": tf.map_fn(reach, image_bytes)}

    return answer
