"""Answers gathered into Parquet files: a shard is written whole when its last answer is there, and then recorded."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bach_keras.serving.answers import Outputs
from bach_keras.serving.bulk.columns import as_table, schema
from bach_keras.serving.bulk.inputs import Inputs, names_between
from bach_keras.serving.bulk.manifest import Manifest, Shard, name_of
from datasets.digest import sha256_of
from datasets.whole import whole

# A block travels from whoever reads to whoever answers: about so many images, in batches that the model sees at once.
IMAGES_OF_BLOCK = 32
# Shards of an input of any length: few enough to be listed, small enough that little is lost with one.
_SHARDS, _LEAST, _MOST = 256, 64, 4096


def shard_size(count: int, batch: int) -> int:
    """Return how many rows a shard has by default: a multiple of the batch, so that batches do not depend on it."""
    size = min(max(-(-count // _SHARDS), _LEAST), _MOST)
    return -(-size // batch) * batch


@dataclass(frozen=True)
class Block:
    """Images of a shard that follow each other."""

    shard: int
    start: int  # the first one's place in the shard
    names: tuple[str, ...]


@dataclass(frozen=True)
class Todo:
    """What is left of a list: for each shard, the places of the first images of the batches that lack."""

    list: Path
    offsets: tuple[int, ...]  # of the shards in it
    batch: int
    shards: tuple[tuple[int, tuple[int, ...] | None], ...]  # None: all of it

    def blocks(self) -> Iterator[Block]:
        """Yield all blocks, shard by shard; only one shard's names are in memory."""
        most = max(IMAGES_OF_BLOCK // self.batch, 1)
        for shard, starts in self.shards:
            names = names_between(self.list, self.offsets[shard], self.offsets[shard + 1])
            lacking = range(0, len(names), self.batch) if starts is None else starts
            for start, count in _runs(lacking, self.batch, most):
                yield Block(shard, start, tuple(names[start : start + count * self.batch]))


def _runs(starts: Sequence[int], step: int, most: int) -> Iterator[tuple[int, int]]:
    """Yield (first, count) of batches that follow each other, at most ``most`` together."""
    first, count = None, 0
    for start in starts:
        if first is not None and start == first + count * step and count < most:
            count += 1
            continue
        if first is not None:
            yield first, count
        first, count = start, 1
    if first is not None:
        yield first, count


class Shards:
    """The Parquet files of a folder."""

    def __init__(self, folder: Path, manifest: Manifest, inputs: Inputs, form: Outputs):
        self._folder, self._manifest, self._form = folder, manifest, form
        self._size, self._batch = manifest.shard_size, manifest.options["batch"]
        self._offsets = tuple(inputs.offsets(self._size))
        self._list, self.folder = inputs.path, inputs.folder
        self._open: dict[int, dict[int, pa.Table]] = {}

    def names(self, number: int) -> list[str]:
        return names_between(self._list, self._offsets[number], self._offsets[number + 1])

    def length(self, number: int) -> int:
        return min(self._size, self._manifest.input["count"] - number * self._size)

    def table(self, number: int) -> pa.Table:
        return pq.read_table(self._folder / name_of(number)).cast(schema(self._form))

    def todo(self) -> Todo:
        """Return what lacks: the shards that do not count, and what ``answer_again`` named."""
        numbers = [each for each in range(self._manifest.count_of_shards) if name_of(each) not in self._manifest.shards]
        lacking = []
        for number in numbers:
            kept = self._open.get(number)
            starts = range(0, self.length(number), self._batch)
            lacking.append((number, None if kept is None else tuple(start for start in starts if start not in kept)))
        return Todo(self._list, self._offsets, self._batch, tuple(lacking))

    def answer_again(self, number: int, places: Sequence[int]) -> None:
        """Let the images at these places of a shard be answered again, with those of their batches."""
        table, again = self.table(number), {place // self._batch for place in places}
        starts = range(0, table.num_rows, self._batch)
        self._open[number] = {
            start: table.slice(start, self._batch) for start in starts if start // self._batch not in again
        }
        del self._manifest.shards[name_of(number)]

    def add(self, number: int, start: int, rows: Sequence[dict]) -> Shard | None:
        """Take the answers of a block, and return the shard when it was its last; what is there already stays."""
        if name_of(number) in self._manifest.shards:
            return None
        pieces = self._open.setdefault(number, {})
        table = as_table(rows, self._form, self._manifest.model["digest"])
        for place in range(0, table.num_rows, self._batch):
            pieces.setdefault(start + place, table.slice(place, self._batch))
        if sum(piece.num_rows for piece in pieces.values()) < self.length(number):
            return None
        return self._write(number, self._open.pop(number))

    def _write(self, number: int, pieces: dict[int, pa.Table]) -> Shard:
        table = pa.concat_tables([pieces[start] for start in sorted(pieces)]).combine_chunks()
        about = {"model": self._manifest.model["digest"], "options": json.dumps(self._manifest.options, sort_keys=True)}
        table = table.replace_schema_metadata(about)
        path = self._folder / name_of(number)
        with whole(path) as partial:
            with partial.open("wb") as file:  # Arrow itself would not say in a word that the disk is full
                pq.write_table(table, file, compression="zstd")
            digest = sha256_of(partial)
        errors = table.num_rows - table["error"].null_count
        shard = Shard(path.name, digest, table.num_rows, errors)
        self._manifest.shards[path.name] = shard
        self._manifest.write(self._folder)
        return shard
