"""The runs of Table 1 on the machines of a Ray cluster, each as soon as those that it needs are finished.

All machines see the same folders under the same names: shared storage holds the project, the images and the runs. A run
takes a GPU, or where the cluster has none all cores of a machine, and trains in a process of its own as on one machine,
so that its numbers are the same. Its run folder alone says how far it is: a run whose machine is lost continues from
there on another.
"""

import contextlib
import logging
import os
import pickle
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bach_keras.cluster import is_alive
from bach_keras.run_place import is_finished
from bach_keras.training.spread_run import LOOK, comes, lock_of
from bach_keras.training.stops import Interrupted
from bach_keras.training.train import finish
from bach_keras.wording import counted
from datasets.errors import UserError, WorkError

LOG = logging.getLogger(__name__)

# Seconds after which a cluster is given up on which no run can be; Ray notices after about 30 that a machine is lost.
PATIENCE = 120.0
# The driver itself would be ended by Ray without a word 60 seconds after the head is lost.
_PATIENCE_WITH_HEAD = 30.0
# Machines that may be lost under one run: what kills more is the run.
ATTEMPTS = 5
# Seconds between two looks at the cluster.
_LOOK = 5.0
# Seconds in which interrupted runs can say what is kept.
_GRACE = 30.0

# The names of Ray's errors of which the next attempt may be free.
_LOST = ("NodeDied", "WorkerCrashed", "OutOfMemory", "ObjectLost")

# What of the environment changes a training.
_SETTINGS = ("TF_", "TFDS_", "KERAS_", "XLA_")
_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Cluster:
    """A cluster that this process has joined."""

    ray: object  # the module
    address: str

    def size_of_run(self) -> dict[str, float]:
        """Return what a run takes: a GPU where there is one, else as many cores as the smallest machine has."""
        machines = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        if any(machine.get("GPU", 0) >= 1 for machine in machines):
            return {"num_gpus": 1}
        cores = [machine["CPU"] for machine in machines if machine.get("CPU", 0) >= 1]
        if not cores:
            raise UserError(f"No machine of the cluster at {self.address} has a core for a run: start one with cores.")
        return {"num_cpus": min(cores)}

    def has_room(self, size: dict[str, float]) -> bool:
        """Say whether a machine that is there could take a run, were it idle."""
        needed = {"GPU": size.get("num_gpus", 0), "CPU": size.get("num_cpus", 0)}
        machines = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        return any(all(machine.get(name, 0) >= count for name, count in needed.items()) for machine in machines)


@dataclass
class _Run:
    """A run that is not finished."""

    number: int
    folder: Path
    needs: list[Path]
    attempts: int = 0
    task: object = None  # its reference, while the cluster has it
    machine: str = ""  # where it has started


@dataclass
class _State:
    runs: list[_Run]
    count: int  # of all runs, finished ones too
    signs: Path  # a folder in which tasks say that they have started; they stop when it is gone
    size: dict[str, float] = field(default_factory=dict)

    @property
    def waiting(self) -> list[_Run]:
        """Runs that can start: what they need is finished."""
        return [run for run in self.runs if run.task is None and all(map(is_finished, run.needs))]

    @property
    def running(self) -> list[_Run]:
        return [run for run in self.runs if run.task is not None]


def train_on_cluster(plan, job_of: Callable, cluster: Cluster, prepare: Callable | None) -> None:
    """Train the runs of a plan that are not finished.

    Args:
        plan: a ``table1_plan.Plan``.
        job_of: returns the ``Job`` of a planned run, once what it needs is finished.
        cluster: where to.
        prepare: called first in each process that trains, for one to show its log.

    Raises:
        WorkError: a run failed, or the cluster cannot finish.
        Interrupted: by Ctrl-C or SIGTERM; the runs were stopped and keep what they have.
    """
    planned = {run.folder: run for run in plan.runs}
    for each in plan.runs:
        if is_finished(each.folder):
            finish(job_of(each))  # trains nothing, and refuses a run of something else
    runs = [
        _Run(number, each.folder, [need for need in (each.parent, each.stop_at) if need is not None])
        for number, each in enumerate(plan.runs, 1)
        if not is_finished(each.folder)
    ]
    if not runs:
        return
    with _signs(plan.out) as signs:
        state = _State(runs, len(plan.runs), signs, cluster.size_of_run())
        LOG.info(f"{counted(len(runs), 'run')} on the cluster at {cluster.address}, each on {_in_words(state.size)}")
        try:
            _train(state, cluster, lambda run: pickle.dumps((job_of(planned[run.folder]), prepare)))
        except KeyboardInterrupt as interrupt:
            _stop(state, cluster)
            kept = "The runs on the cluster were stopped, and keep their last complete epochs."
            again = "Resume by giving the same command again: what is finished is kept."
            raise Interrupted(kept, again, interrupt) from interrupt
        except BaseException:
            _stop(state, cluster)
            raise


def _train(state: _State, cluster: Cluster, pack: Callable) -> None:
    watch = _Watch(cluster, state.size)
    while state.runs:
        for run in state.waiting:
            run.task = _submit(cluster, state, run, pack(run))
            LOG.info(f"run {run.number} of {state.count}: {run.folder} waits for a machine")
        done, _ = cluster.ray.wait([run.task for run in state.running], timeout=0)
        if not done:
            time.sleep(LOOK)  # here a signal arrives as what it is; in Ray's wait SIGTERM would look like Ctrl-C
        for run in [run for run in state.running if run.task in done]:
            _take(cluster, state, run)
        for run in state.running:
            sign = state.signs / str(run.number)
            if sign.exists() and (machine := sign.read_text()) != run.machine:
                run.machine = machine
                LOG.info(f"run {run.number} of {state.count}: {run.folder} trains on {machine}")
        watch.look()


def _submit(cluster, state, run, packed):
    """Hand a run to the cluster. What it calls there is sent as it is, as it has to find this project first."""
    place, root, signs = os.getcwd(), str(_ROOT), str(state.signs)
    environment = {name: value for name, value in os.environ.items() if name.startswith(_SETTINGS)}
    number = run.number

    def work():
        import os
        import socket
        import sys

        os.environ.pop("OMP_NUM_THREADS", None)  # Ray's, by the cores that were asked for
        os.environ.update(environment)
        try:
            os.chdir(place)
        except OSError as error:
            return socket.gethostname(), f"{place} is not there ({error.strerror})"
        if root not in sys.path:
            sys.path.insert(0, root)
        try:
            from bach_keras.training.spread_run import train_here
        except ImportError as error:
            return socket.gethostname(), f"this project cannot be imported there from {root} ({error})"
        return train_here(packed, signs, number)

    run.attempts += 1
    # A process for each run, and the driver decides what is tried again: Ray would try for ever.
    return cluster.ray.remote(max_calls=1, max_retries=0, **state.size)(work).remote()


def _take(cluster, state, run) -> None:
    """Take what a run has come to."""
    exceptions = cluster.ray.exceptions
    try:
        machine, fault = cluster.ray.get(run.task)
    except exceptions.LocalRayletDiedError as lost:
        raise WorkError(
            "Ray on this machine has ended, by which this command reaches the cluster: start it, and give the same "
            "command again. What is finished is kept."
        ) from lost
    except tuple(getattr(exceptions, f"{name}Error") for name in _LOST) as lost:
        run.task, where = None, run.machine or "its machine"
        (state.signs / str(run.number)).unlink(missing_ok=True)
        run.machine = ""
        reason = type(lost).__name__.removesuffix("Error")
        if run.attempts >= ATTEMPTS:
            raise WorkError(
                f"{run.folder} was lost with its machine or process {ATTEMPTS} times, last on {where} ({reason}): see "
                "what ends it there. Give the same command again to resume it."
            ) from lost
        LOG.warning(f"run {run.number} of {state.count}: {where} was lost ({reason}); {run.folder} resumes on another")
        return
    if fault:
        raise WorkError(f"{run.folder} failed on {machine}: {fault}")
    _wait_for(run.folder, machine)
    state.runs.remove(run)
    lock_of(run.folder).unlink(missing_ok=True)
    LOG.info(f"run {run.number} of {state.count}: {run.folder} is finished on {machine}")


def _wait_for(folder: Path, machine: str) -> None:
    """Wait until shared storage shows here what another machine has written."""
    if not comes(lambda: is_finished(folder)):
        raise WorkError(
            f"{folder} was finished on {machine} and is not here: --out must be on storage that all machines share."
        )


class _Watch:
    """Gives a cluster up that cannot finish."""

    def __init__(self, cluster: Cluster, size: dict[str, float]):
        self._cluster, self._size = cluster, size
        self._looked = self._head = self._room = time.monotonic()

    def look(self) -> None:
        """Look at the cluster, where the last look is not of just now; a WorkError gives it up."""
        now = time.monotonic()
        if now - self._looked < _LOOK:
            return
        self._looked, address = now, self._cluster.address
        if not is_alive(address):
            if now - self._head > _PATIENCE_WITH_HEAD:
                raise WorkError(
                    f"The head of the cluster at {address} has not answered for {_PATIENCE_WITH_HEAD:g} seconds: start "
                    "a cluster again, and give the same command again. What is finished is kept."
                )
            return  # what it knows of its machines cannot be asked
        self._head = now
        if self._cluster.has_room(self._size):
            self._room = now
        elif now - self._room > PATIENCE:
            raise WorkError(
                f"For {PATIENCE:g} seconds no machine of the cluster at {address} has had {_in_words(self._size)} for "
                "a run: start one, and give the same command again. What is finished is kept."
            )


def _stop(state: _State, cluster: Cluster) -> None:
    """Let the runs that train stop and keep what they have; what does not, Ray ends when this process leaves it."""
    shutil.rmtree(state.signs, ignore_errors=True)
    tasks = [run.task for run in state.running if run.machine]
    if not tasks or not is_alive(cluster.address):
        return
    LOG.info(f"stopping {counted(len(tasks), 'run')}")
    # Ray's own way to cancel tasks can end this process where one of them ends at the same time.
    with contextlib.suppress(KeyboardInterrupt):
        cluster.ray.wait(tasks, num_returns=len(tasks), timeout=_GRACE, fetch_local=False)


@contextlib.contextmanager
def _signs(out: Path) -> Iterator[Path]:
    folder = out.resolve() / f".cluster-{secrets.token_hex(8)}"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _in_words(size: dict[str, float]) -> str:
    return "a GPU" if "num_gpus" in size else counted(int(size["num_cpus"]), "core")
