"""What many answers come to, read from the Parquet files of ``bulk`` row by row: memory does not grow with them."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bach_keras.evidence.drift import Tally
from bach_keras.evidence.findings import EDGES, Sample
from bach_keras.evidence.ranges import SIDES
from bach_keras.serving.bulk.manifest import Manifest, sha256_if_there
from bach_keras.wording import counted
from datasets.errors import UserError
from datasets.progress import bar

ROWS = 2**15  # at a time

# Measure -> the column that holds it.
MEASURES = {
    "blur": "measured.blur", "tissue": "measured.tissue", "stain": "measured.stain", "features": "distance",
}  # fmt: skip
_PROBABILITY = "probabilities."
_COLUMNS = (
    "path",
    "label",
    "unsure",
    "um_per_pixel",
    "warnings",
    "model",
    "error",
    *MEASURES.values(),
)


@dataclass
class Answers:
    """The answers of one model for many images."""

    folder: Path
    options: dict  # with which they were given
    expected: int  # images that were to be answered
    rows: int = 0
    labels: Counter = field(default_factory=Counter)
    unsure: int = 0
    calibrated: int = 0  # rows that say whether they are unsure
    warned: Counter = field(default_factory=Counter)  # warning -> images
    warned_any: int = 0  # images with a warning that training images have too: of one of SIDES
    judged: int = 0  # rows that say which warnings they have
    unscaled: int = 0  # rows of which the scale is unknown
    confidence: Tally = field(default_factory=lambda: Tally(EDGES["confidence"]))
    measures: dict[str, Tally] = field(default_factory=lambda: {name: Tally(EDGES[name]) for name in MEASURES})
    folders: Counter | None = None  # folder -> images, where images of a folder count as one group
    notes: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)  # sentences on files that should have counted

    @property
    def n(self) -> int:
        """Images with an answer."""
        return self.labels.total()

    @property
    def effective(self) -> float:
        """How many independent images say as much (Kish 1965)."""
        if not self.folders:
            return float(self.n)
        sizes = np.array(list(self.folders.values()), float)
        return float(sizes.sum() ** 2 / (sizes**2).sum())

    @property
    def sample(self) -> Sample:
        return Sample(self.n, self.effective)

    def add(self, batch: pa.RecordBatch) -> None:
        """Count some rows."""
        self.rows += batch.num_rows
        batch = batch.filter(pc.is_null(batch["error"]))
        if not batch.num_rows:
            return
        self.labels.update(_counts(batch["label"]))
        self.unsure += pc.sum(batch["unsure"]).as_py() or 0
        self.unscaled += batch["um_per_pixel"].null_count
        self.calibrated += batch.num_rows - batch["unsure"].null_count
        for name, column in MEASURES.items():
            self.measures[name].add(_floats(batch[column]))
        shares = [_floats(batch[name]) for name in batch.schema.names if name.startswith(_PROBABILITY)]
        self.confidence.add(np.max(shares, axis=0))
        self._add_warnings(batch["warnings"])
        if self.folders is not None:
            self.folders.update(_counts(pc.replace_substring_regex(batch["path"], "[^/]*$", "")))

    def _add_warnings(self, lists: pa.Array) -> None:
        self.judged += len(lists) - lists.null_count
        rows, names = pc.list_parent_indices(lists), pc.list_flatten(lists).field("name")
        self.warned.update(_counts(names))
        of_training = pc.is_in(names, value_set=pa.array(SIDES))
        self.warned_any += len(pc.unique(rows.filter(of_training)))


def _counts(column) -> dict[str, int]:
    return {
        each["values"]: each["counts"] for each in pc.value_counts(column).to_pylist() if each["values"] is not None
    }


def _floats(column) -> np.ndarray:
    return column.cast(pa.float64()).fill_null(float("nan")).to_numpy(zero_copy_only=False)


def read_answers(folder: Path, digest: str, by_folder: bool = False) -> Answers:
    """Read what ``bulk`` wrote into a folder, of the model with this digest.

    Only files whose digest stands in the manifest count. Those that it names and that are not there, or are others,
    are left out, and ``damaged`` says so.
    """
    manifest = Manifest.read(folder)
    if manifest is None:
        raise UserError(f"{folder} holds no manifest.json: name the folder that `bulk --out` wrote.")
    if manifest.model["digest"] != digest:
        raise UserError(
            f"{folder} holds answers of another model ({manifest.model['folder']}, {manifest.model['digest'][:12]}): "
            f"name that one with --model. This one is {digest[:12]}."
        )
    found = Answers(folder, manifest.options, manifest.input["count"], folders=Counter() if by_folder else None)
    for shard in bar(manifest.shards.values(), what="read"):
        path = folder / shard.name
        if (there := sha256_if_there(path)) != shard.sha256:
            state = "is not there" if there is None else "is not the file that was written"
            found.damaged.append(f"{path} {state}: give the same bulk again, which answers its images again.")
            continue
        for batch in _batches(path, digest):
            found.add(batch)
    listed = {shard.name for shard in manifest.shards.values()}
    if unlisted := [path.name for path in sorted(folder.glob("part-*.parquet")) if path.name not in listed]:
        found.notes.append(
            f"{counted(len(unlisted), 'file')} that the manifest does not name, such as {unlisted[0]}, did not count: "
            "bulk writes such a file before it names it."
        )
    if manifest.rows < found.expected:
        found.notes.append(f"bulk has answered {manifest.rows:,} of {found.expected:,} images: the rest is not here.")
    return found


def _batches(path: Path, digest: str) -> Iterator[pa.RecordBatch]:
    try:
        file = pq.ParquetFile(path)
        shares = [name for name in file.schema_arrow.names if name.startswith(_PROBABILITY)]
        if missing := [name for name in _COLUMNS if name not in file.schema_arrow.names] or (
            [] if shares else [_PROBABILITY]
        ):
            raise UserError(f"{path} has no column {missing[0]}: it is not a file that bulk of this version writes.")
        for batch in file.iter_batches(ROWS, columns=[*_COLUMNS, *shares]):
            if others := set(_counts(batch["model"])) - {digest}:
                raise UserError(
                    f"{path} holds answers of several models ({', '.join(sorted(each[:12] for each in others))} beside "
                    f"{digest[:12]}): monitor the answers of one model at a time."
                )
            yield batch
    except pa.ArrowException as error:
        raise UserError(f"{path} cannot be read as Parquet ({' '.join(str(error).split())[:200]}).") from error
