"""Many images answered into Parquet files: started, resumed and finished."""

import contextlib
import logging
import multiprocessing
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from bach_keras.serving.bulk import files, inputs
from bach_keras.serving.bulk.changes import changed_places, error_places
from bach_keras.serving.bulk.engine import serve
from bach_keras.serving.bulk.manifest import FILE, Manifest, check_same
from bach_keras.serving.bulk.plan import Answering, Looking, Machines, Plan
from bach_keras.serving.bulk.shards import Shards, shard_size
from bach_keras.wording import counted
from datasets.errors import UserError, WorkError, working
from datasets.locked import NoLocksError, lock, no_locks_in
from datasets.progress import bar
from datasets.whole import unfinished

LOG = logging.getLogger(__name__)

_LOCK = ".lock"
# Seconds beyond the cluster's patience, after which silence of the process that talks to it means that it hangs.
_SILENCE = 60.0
# Seconds that it may take to end, and between two lines of progress where there is no terminal.
_END, _LINES = 20.0, 30.0
# Seconds of answers that a rate is of.
_RATE = 5.0


@dataclass(frozen=True)
class Job:
    """What is to be answered, where to, and how."""

    source: str  # a folder, a text file of paths and URLs, or the URL of a folder
    out: Path
    answering: Answering
    looking: Looking
    machines: Machines
    shard_size: int | None = None  # None: by the length of the input
    again: tuple[str, ...] = ()  # "changed" files and "errors" are answered again


def run_bulk(job: Job, form) -> Manifest:
    """Answer what lacks of a job, and return what is there at the end.

    Args:
        form: the ``Outputs`` of the model.
    """
    _check_out(job.out)
    written = [job.out / FILE, job.out / inputs.FILE, job.out / _LOCK, Path(job.machines.log)]
    new = [] if written[0].exists() else [path for path in written if not path.exists()]
    with _only_one(job.out):
        try:
            return _run_bulk(job, form)
        except UserError:
            _leave_as_it_was(job.out, new)
            raise


def _run_bulk(job: Job, form) -> Manifest:
    manifest, listed = _begin(job)
    for sentence in inputs.warnings_of(listed):
        LOG.warning(sentence)
    shards = Shards(job.out, manifest, listed, form)
    _look_at_what_is_there(job, manifest, shards)
    looking = replace(job.looking, folder=listed.folder)
    plan = Plan(job.machines, looking, job.answering, shards.todo())
    if plan.todo.shards:
        with working():
            manifest.write(job.out)
            _run(plan, shards, listed.count)
    if shards.settled != listed.count:
        raise RuntimeError(f"{shards.settled} of {listed.count} images are answered, and nothing says why.")
    return manifest


def _check_out(folder: Path) -> None:
    """Refuse a folder where files that no bulk wrote have the names of those that it would write."""
    if (folder / FILE).exists():  # which is looked at when it is read
        return
    listed = folder / inputs.FILE
    taken = [listed] if listed.exists() and not (listed.is_file() and inputs.is_list(listed)) else []
    taken += sorted(folder.glob("part-*.parquet"))
    if taken:
        raise UserError(
            f"{folder} holds {taken[0].name}, but not the {FILE} of a bulk: it would be written over. Name another "
            "--out."
        )


def _leave_as_it_was(folder: Path, new: list[Path]) -> None:
    """Take away what was written into a folder in which nothing was started."""
    for path in new:
        path.unlink(missing_ok=True)
    if new:
        with contextlib.suppress(OSError):  # something else is in it
            folder.rmdir()


@contextlib.contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Refuse a folder into which another process writes answers."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("wb") as file:
        try:
            if not lock(file):
                raise UserError(f"Another bulk writes into {folder}: wait for it, or name another --out.")
        except NoLocksError:
            LOG.warning(no_locks_in(folder, "another bulk into it"))
        yield


def _begin(job: Job) -> tuple[Manifest, inputs.Inputs]:
    """Return the manifest to go on with, and the list, of which the one that is there is kept."""
    there = Manifest.read(job.out)
    place = job.out / inputs.FILE
    new = place.with_name(f"{inputs.FILE}.new")
    try:
        listed = inputs.write_inputs(job.source, new)
        before = there and inputs.as_before(listed, place, there.input)
        wanted = _manifest(job, before or listed, there)
        if there is not None:
            check_same(there, wanted, job.out)
        if before is None:
            new.replace(place)
    finally:
        new.unlink(missing_ok=True)
    for path in unfinished(job.out):
        path.unlink()
    return there or wanted, before or replace(listed, path=place)


def _manifest(job: Job, listed: inputs.Inputs, there: Manifest | None) -> Manifest:
    batch = job.answering.batch
    size = job.shard_size or (there.shard_size if there else shard_size(listed.count, batch))
    if size % batch:
        raise UserError(f"--shard-size {size} is not a multiple of --batch-size {batch}: give one that is.")
    looking, answering = job.looking, job.answering
    options = {
        "routing": answering.routing, "views": looking.views, "batch": batch, "icc": looking.icc,
        "um_per_pixel": looking.um_per_pixel,
    }  # fmt: skip
    source = {
        "source": _as_text(job.source), "sha256": listed.sha256, "count": listed.count, "folder": listed.folder,
        "doubles": listed.doubles,
    }  # fmt: skip
    return Manifest({"folder": _as_text(answering.model), "digest": answering.digest}, options, source, size)


def _as_text(name: str) -> str:
    """Return where something is in full: the folder from which a command is given may be another next time."""
    full = name if name == "-" or files.is_url(name) else os.path.abspath(name)
    return full.encode(errors="backslashreplace").decode()


def _look_at_what_is_there(job: Job, manifest: Manifest, shards: Shards) -> None:
    """Find what of the answers that are there does not count, or has to be given again."""
    for name in manifest.drop_what_does_not_count(job.out):
        LOG.warning(f"{name} is missing or damaged: its images are answered again.")
    if manifest.shards:
        LOG.info(f"{manifest.rows:,} of {manifest.input['count']:,} images are answered already.")
    again = changed_places(manifest, shards)
    if again and "changed" not in job.again:
        count = sum(map(len, again.values()))
        number, places = next(iter(again.items()))
        raise UserError(
            f"{counted(count, 'file')} changed after being answered, such as {shards.names(number)[places[0]]}: answer "
            "such files again with --again changed, or name another --out."
        )
    if "errors" in job.again:
        for number, places in error_places(manifest, shards).items():
            again[number] = sorted({*again.get(number, ()), *places})
    for number, places in again.items():
        shards.answer_again(number, places)


def _run(plan: Plan, shards: Shards, total: int) -> None:
    """Let a process answer what lacks, and write what it sends."""
    processes = multiprocessing.get_context("spawn")
    ours, theirs = processes.Pipe()
    process = processes.Process(target=serve, args=(plan, theirs), name="bulk-ray")
    settled = shards.settled
    process.start()
    theirs.close()
    try:
        with bar(what="bulk", total=total) as progress:
            progress.update(settled)
            _take(ours, plan, shards, _Progress(progress, total, settled))
    finally:
        ours.close()  # which tells it to end
        process.join(_END)
        if process.is_alive():
            process.kill()
            process.join()


class _Progress:
    """A bar on a terminal, and elsewhere a line from time to time: rate and time left."""

    def __init__(self, drawn, total: int, settled: int):
        self._bar, self._total, self._done = drawn, total, settled
        self._answered, self._begun, self._said = 0, None, time.monotonic()

    def add(self, count: int) -> None:
        now = time.monotonic()
        self._bar.update(count)
        self._done += count
        if self._begun is None:  # those first ones waited for the model to be loaded
            self._begun = now
            return
        self._answered += count
        if self._bar.disable and now - self._said > _LINES and now - self._begun > _RATE:
            rate = self._answered / (now - self._begun)
            left = timedelta(seconds=round((self._total - self._done) / rate))
            LOG.info(f"{self._done:,} of {self._total:,} images, {rate:.3g} images/s, {left} left")
            self._said = now


def _take(connection, plan: Plan, shards: Shards, progress: _Progress) -> None:
    silence = plan.machines.patience + _SILENCE
    while True:
        try:
            if not connection.poll(silence):
                raise WorkError(
                    f"Ray has not answered for {silence:g} s. What is answered stays: give the command again."
                )
            kind, *said = connection.recv()
        except (EOFError, ConnectionResetError):
            raise WorkError(
                "The connection to Ray was lost: its head, or its part on this machine, ended "
                f"({plan.machines.log}). What is answered stays: give the command again."
            ) from None
        if kind == "rows":
            block, rows = said
            shards.add(block.shard, block.start, rows)
            progress.add(len(rows))
        elif kind == "said":
            LOG.warning(said[0])
        elif kind == "refused":
            raise UserError(said[0])
        elif kind == "failed":
            raise WorkError(said[0])
        elif kind == "bug":
            raise RuntimeError(f"In the process that talks to Ray:\n{said[0]}")
        elif kind == "done":
            return
