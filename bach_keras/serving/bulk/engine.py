"""Blocks of images answered on a Ray cluster: tasks read them, an actor for each GPU or core answers.

It has a process of its own, since Ray ends its process, without a Python exception, where the cluster's head or this
machine's part of Ray is lost. The process that started it alone writes files, so nothing is written twice whatever
Ray runs twice.

Ray Data is not used, though it would do the same on a good day: it runs a batch again for ever that ends its actor, it
does not say whether any actor is alive, and its checkpoints hold all names in memory and read all input again.
"""

import contextlib
import os
import signal
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from bach_keras.cluster import connected, is_alive
from bach_keras.serving.bulk.plan import Machines, Plan
from bach_keras.serving.bulk.shards import Block
from bach_keras.serving.bulk.tasks import Worker, read_block
from bach_keras.wording import counted
from datasets.ahead import processors
from datasets.errors import UserError, WorkError

# Of a core, for Ray's accounts: one worker fits on each, and readers beside it.
_WORKER_CPUS, _READER_CPUS = 0.9, 0.02
# A worker has so many blocks at once, so that it need not wait for the next.
_BLOCKS_OF_WORKER = 2
# So often a block is tried whose process ends, and a worker that ends before it has loaded its model.
_TRIES = 3
# Seconds that an actor waits for images before one more process reads them.
_MORE_READERS = 3.0
# Seconds that a process which has started may take to load the model.
_LOADING = 600.0
# What is said where no answer comes, of images that are being read and of those that are being answered.
_WAITED = {
    False: "{} wait to be read: does the cluster have a free core, and does the disk or the object store answer?",
    True: "{} are with processes that answer: is one of them slow, or does it hang?",
}
# Seconds between two looks at the machines.
_LOOK = 5.0


def serve(plan: Plan, connection: Connection) -> None:
    """Answer what a plan lacks, and send it on; what arrives on the connection, or its end, ends the work.

    Sends ("rows", block, rows), ("said", sentence), ("alive",) at least every few seconds, and last one of ("done",),
    ("refused", sentence), ("failed", sentence) and ("bug", traceback).
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one says when to end
    with open(plan.machines.log, "ab") as log:  # Ray writes there, and why it ends where it does
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    last = ("done",)
    try:
        with connected(plan.machines.address, _cpus(plan.machines)) as ray:
            Engine(ray, plan, connection.send).run(connection.poll)
    except BrokenPipeError:
        return
    except UserError as error:
        last = ("refused", str(error))
    except WorkError as error:
        last = ("failed", str(error))
    except Exception:
        last = ("bug", traceback.format_exc())
    with contextlib.suppress(BrokenPipeError):  # it is not waited for any more
        connection.send(last)


def _cpus(machines: Machines) -> int:
    """Return how many cores a cluster of this machine alone has: for Ray, at least as many as workers."""
    return max(processors(), machines.workers or 1)


@dataclass(eq=False)
class _Actor:
    """An actor that holds the model, or will."""

    handle: object
    loading: object = None  # what ``load`` will return; None once it has
    starting: object = None  # what ``is_there`` will return, likewise
    blocks: dict = field(default_factory=dict)  # what ``answer`` will return -> its block and the images read


class Engine:
    """The blocks on their way: to be read, read, and being answered."""

    def __init__(self, ray, plan: Plan, send: Callable):
        self._ray, self._plan, self._send = ray, plan, send
        self._left = plan.todo.blocks()
        self._again: deque[Block] = deque()
        self._reading: dict[object, Block] = {}
        self._read: deque[tuple[Block, object]] = deque()
        self._actors: list[_Actor] = []
        self._tries: Counter = Counter()
        self._without_actor = self._more_readers = self._head_alive = self._looked = time.monotonic()
        self._answered = time.monotonic()  # or since when an answer is waited for

    def run(self, is_stopped: Callable[[], bool]) -> None:
        resources = self._ray.cluster_resources()
        self._is_gpu = resources.get("GPU", 0) >= 1
        self._wanted = self._plan.machines.workers or int(resources.get("GPU" if self._is_gpu else "CPU", 1)) or 1
        self._read_task = self._ray.remote(num_cpus=_READER_CPUS, scheduling_strategy="SPREAD", max_retries=_TRIES)(
            read_block
        )
        self._looking = self._ray.put(self._plan.looking)
        self._most_readers = max(int(resources.get("CPU", 1)), 1)
        self._readers = max(1, self._wanted * 4 if self._is_gpu else self._wanted // 8)
        while not is_stopped():
            self._start_actors()
            self._read_ahead()
            self._give_out()
            if not (self._reading or self._read or self._again or any(each.blocks for each in self._actors)):
                return
            self._collect()
            self._watch()
            self._send(("alive",))

    def _start_actors(self) -> None:
        needs = {"num_gpus": 1, "num_cpus": 0} if self._is_gpu else {"num_cpus": _WORKER_CPUS}
        # On a core each, a worker computes in one thread; a GPU's may take what it likes.
        threads = 0 if self._is_gpu else max(1, processors() // self._wanted) if self._is_local else 1
        for _ in range(self._wanted - len(self._actors)):
            handle = self._ray.remote(**needs, scheduling_strategy="SPREAD")(Worker).remote()
            starting = handle.is_there.remote()
            loading = handle.load.remote(self._plan.answering, self._looking, threads)
            self._actors.append(_Actor(handle, loading, starting))

    @property
    def _is_local(self) -> bool:
        return self._plan.machines.address is None

    def _read_ahead(self) -> None:
        """Let blocks be read, as many as keep the workers busy; fewer of large ones would leave them waiting."""
        most = (_BLOCKS_OF_WORKER + 1) * self._wanted + 1
        under_way = len(self._reading) + len(self._read) + sum(len(each.blocks) for each in self._actors)
        for _ in range(min(most - under_way, self._readers - len(self._reading))):
            block = self._again.popleft() if self._again else next(self._left, None)
            if block is None:
                return
            self._reading[self._read_task.remote(block.names, self._looking)] = block

    def _give_out(self) -> None:
        while self._read:
            free = [each for each in self._actors if each.loading is None and len(each.blocks) < _BLOCKS_OF_WORKER]
            if not free:
                break
            actor = min(free, key=lambda each: len(each.blocks))
            block, seen = self._read.popleft()
            actor.blocks[actor.handle.answer.remote(seen)] = block, seen
        is_idle = any(each.loading is None and not each.blocks for each in self._actors)
        # A process that reads takes some seconds to start, so there are no more of them than it takes.
        if is_idle and len(self._reading) == self._readers < self._most_readers:
            if time.monotonic() - self._more_readers > _MORE_READERS:
                self._readers, self._more_readers = self._readers + max(1, self._wanted // 8), time.monotonic()
        elif not is_idle:
            self._more_readers = time.monotonic()

    def _collect(self) -> None:
        """Wait a second for what is ready, and take it."""
        answers = {reference: actor for actor in self._actors for reference in actor.blocks}
        loading = {actor.loading: actor for actor in self._actors if actor.loading is not None}
        starting = {actor.starting: actor for actor in self._actors if actor.starting is not None}
        waited = [*answers, *loading, *starting, *self._reading]
        ready, _ = self._ray.wait(waited, num_returns=1, timeout=1.0, fetch_local=False)
        if ready:  # take all that are ready by now
            ready, _ = self._ray.wait(waited, num_returns=len(waited), timeout=0, fetch_local=False)
        for reference in ready:
            if reference in self._reading:
                self._read.append((self._reading.pop(reference), reference))
            elif reference in starting:
                starting[reference].starting = None  # or it ended, which ``load`` says too
            elif reference in loading:
                self._take_loaded(loading[reference])
            elif reference in answers[reference].blocks:  # its actor may have been given up a moment ago
                self._take_answers(answers[reference], reference)

    def _take_loaded(self, actor: _Actor) -> None:
        exceptions = self._ray.exceptions
        try:
            self._ray.get(actor.loading)
            actor.loading = None
            del self._tries["load"]
        except exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, WorkError) else error from None
        except exceptions.RayError as error:
            self._actors.remove(actor)
            self._try_again("load", f"A process that was to load the model ended ({_first_line(error)})")

    def _take_answers(self, actor: _Actor, reference) -> None:
        exceptions = self._ray.exceptions
        block, seen = actor.blocks.pop(reference)
        try:
            rows = self._ray.get(reference)
        except exceptions.RayTaskError as error:
            if isinstance(error.cause, WorkError):
                raise error.cause from None
            if not isinstance(error.cause, exceptions.RayError):
                raise
            self._return(block, error.cause)  # those who read it were lost
        except exceptions.RayActorError as error:
            self._give_up(actor, (block, seen), error)
        except exceptions.RayError as error:
            self._return(block, error)
        else:
            del self._tries[block]
            self._answered = time.monotonic()
            self._send(("rows", block, rows))

    def _give_up(self, actor: _Actor, last: tuple, error) -> None:
        self._send(("said", f"A process that answers was lost ({_first_line(error)}); others take its images."))
        self._actors.remove(actor)
        self._read.extend([last, *actor.blocks.values()])  # what was read and is lost too, Ray reads again
        actor.blocks.clear()
        self._ray.kill(actor.handle)  # one that only could not be reached would keep its core
        self._count_try(last[0], error)

    def _return(self, block: Block, error) -> None:
        self._again.append(block)
        self._count_try(block, error)

    def _count_try(self, block: Block, error) -> None:
        where = f"{block.names[0]} and {counted(len(block.names) - 1, 'image')} after it"
        self._try_again(block, f"The processes that read or answered {where} ended ({_first_line(error)})")

    def _try_again(self, what, sentence: str) -> None:
        self._tries[what] += 1
        if self._tries[what] > _TRIES * (self._wanted if what == "load" else 1):
            raise WorkError(f"{sentence}, {self._tries[what]} times. What is answered stays: see Ray's logs.")

    def _watch(self) -> None:
        """Give up where no process answers, or no head of the cluster is there, for as long as that is waited for."""
        now, patience = time.monotonic(), self._plan.machines.patience
        has_started = any(actor.starting is None for actor in self._actors)
        if any(actor.loading is None for actor in self._actors):
            self._without_actor = now
            self._say_what_is_waited_for(now)
        else:
            self._answered = now
            if has_started and now - self._without_actor < _LOADING:
                return
        if now - self._without_actor > patience:
            nodes = [node for node in self._ray.nodes() if node["Alive"]]
            need = "a GPU" if self._is_gpu else "a core"
            raise WorkError(
                f"For {patience:g} s no process of the cluster could answer: it has {counted(len(nodes), 'machine')}, "
                f"with {need} free for none. What is answered stays; give the command again when there is room."
            )
        if self._is_local or now - self._looked < _LOOK:
            return
        if is_alive(self._plan.machines.address):
            self._head_alive = time.monotonic()
        self._looked = time.monotonic()
        if self._looked - self._head_alive > patience:
            raise WorkError(
                f"The head of the cluster at {self._plan.machines.address} has not answered for {patience:g} s. What "
                "is answered stays; give the command again when the cluster is there."
            )

    def _say_what_is_waited_for(self, now: float) -> None:
        """Say where no answer comes although the model is loaded: it may be slow, so it is waited for."""
        patience = self._plan.machines.patience
        answering = [block for actor in self._actors for block, _ in actor.blocks.values()]
        blocks = answering or [*self._reading.values(), *(block for block, _ in self._read)]
        if now - self._answered <= patience or not blocks:
            return
        self._answered = now  # so that it is said again after as long
        images = f"{blocks[0].names[0]} and {counted(sum(len(each.names) for each in blocks) - 1, 'image')} beside it"
        self._send(("said", f"No answer came for {patience:g} s. {_WAITED[bool(answering)].format(images)}"))


def _first_line(error) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:200]
