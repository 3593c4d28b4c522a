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
from bach_keras.serving.bulk.manifest import Manifest, Shard, kept_beside, name_of
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
        # Of shards that are there, the places of the first images of the batches that are answered again.
        self._again: dict[int, list[int]] = {}

    def names(self, number: int) -> list[str]:
        return names_between(self._list, self._offsets[number], self._offsets[number + 1])

    def length(self, number: int) -> int:
        return min(self._size, self._manifest.input["count"] - number * self._size)

    def table(self, number: int) -> pa.Table:
        return pq.read_table(self._folder / name_of(number)).cast(schema(self._form))

    def todo(self) -> Todo:
        """Return what lacks: the shards that do not count, and what ``answer_again`` named."""
        numbers = range(self._manifest.count_of_shards)
        lacking = [each for each in numbers if each in self._again or name_of(each) not in self._manifest.shards]
        shards = tuple((each, tuple(self._again[each]) if each in self._again else None) for each in lacking)
        return Todo(self._list, self._offsets, self._batch, shards)

    @property
    def settled(self) -> int:
        """How many images are answered and are not answered again."""
        again = (
            min(self._batch, self.length(each) - start) for each, starts in self._again.items() for start in starts
        )
        return self._manifest.rows - sum(again)

    def answer_again(self, number: int, places: Sequence[int]) -> None:
        """Let the images at these places of a shard be answered again, with those of their batches.

        The shard stays as it is, and counts, until all of these answers are there.
        """
        self._again[number] = sorted({place // self._batch * self._batch for place in places})

    def add(self, number: int, start: int, rows: Sequence[dict]) -> Shard | None:
        """Take the answers of a block, and return the shard when it was its last; what is there already stays."""
        if name_of(number) in self._manifest.shards and number not in self._again:
            return None
        wanted = self._again.get(number, range(0, self.length(number), self._batch))
        pieces = self._open.setdefault(number, {})
        table = as_table(rows, self._form, self._manifest.model["digest"])
        for place in range(0, table.num_rows, self._batch):
            pieces.setdefault(start + place, table.slice(place, self._batch))
        if len(pieces) < len(wanted):
            return None
        shard = self._write(number, self._open.pop(number))
        self._again.pop(number, None)
        return shard

    def _write(self, number: int, pieces: dict[int, pa.Table]) -> Shard:
        path = self._folder / name_of(number)
        if number in self._again:  # read only now, so that one shard is in memory and not all of them
            there = self.table(number)
            starts = range(0, there.num_rows, self._batch)
            pieces = {start: there.slice(start, self._batch) for start in starts} | pieces
        table = pa.concat_tables([pieces[start] for start in sorted(pieces)]).combine_chunks()
        about = {"model": self._manifest.model["digest"], "options": json.dumps(self._manifest.options, sort_keys=True)}
        table = table.replace_schema_metadata(about)
        with whole(path) as partial:
            with partial.open("wb") as file:  # Arrow itself would not say in a word that the disk is full
                pq.write_table(table, file, compression="zstd")
            digest = sha256_of(partial)
            if number in self._again:  # it counts until the manifest names the new one
                path.rename(kept_beside(path))
        errors = table.num_rows - table["error"].null_count
        shard = Shard(path.name, digest, table.num_rows, errors)
        self._manifest.shards[path.name] = shard
        self._manifest.write(self._folder)
        kept_beside(path).unlink(missing_ok=True)
        return shard
