"""The engine on a Ray of the tests' own, of which processes and machines end when a test says so."""

import itertools
import re
import time
from types import SimpleNamespace

import pytest

from bach_keras.serving.bulk import engine
from bach_keras.serving.bulk.inputs import write_inputs
from bach_keras.serving.bulk.plan import Answering, Looking, Machines, Plan
from bach_keras.serving.bulk.shards import Todo
from datasets.errors import WorkError


class RayError(Exception):
    pass


class RayActorError(RayError):
    pass


class RayTaskError(RayError):
    def __init__(self, cause):
        super().__init__(str(cause))
        self.cause = cause


class FakeRay:
    """Does what is asked of it when it is waited for, one thing at a time.

    ``happens`` is called with the number and the kind of each ("read", "load", "answer"), and raises what goes wrong:
    a RayActorError ends the actor, with all that was asked of it.
    """

    exceptions = SimpleNamespace(RayError=RayError, RayActorError=RayActorError, RayTaskError=RayTaskError)

    def __init__(self, happens=lambda number, kind: None, cpus=2, has_room=True):
        self.happens, self.cpus, self.has_room = happens, cpus, has_room
        self.asked, self.results, self.count = [], {}, itertools.count()

    def cluster_resources(self):
        return {"CPU": self.cpus}

    def nodes(self):
        return [{"Alive": True}, {"Alive": False}]

    def kill(self, handle):
        handle.is_dead = True

    def put(self, value):
        return value

    def remote(self, **options):
        return lambda what: _Task(self) if what is engine.read_block else SimpleNamespace(remote=lambda: _Handle(self))

    def ask(self, kind, arguments, actor=None):
        reference = f"{kind} {next(self.count)}"
        self.asked.append((reference, kind, arguments, actor))
        return reference

    def wait(self, references, num_returns, timeout, fetch_local):
        if not any(reference in self.results for reference in references) and self.has_room:
            self._do(*self.asked.pop(0))
        return [reference for reference in references if reference in self.results], []

    def _do(self, reference, kind, arguments, actor):
        try:
            if actor is not None and actor.is_dead:
                raise RayActorError("The actor died.")
            self.happens(next(self.count), kind)
            self.results[reference] = arguments
        except RayActorError as error:
            actor.is_dead = True
            self.results[reference] = error
            others = [each for each in self.asked if each[3] is actor]
            self.asked = [each for each in self.asked if each[3] is not actor]
            self.results |= dict.fromkeys((each[0] for each in others), error)
        except Exception as error:
            self.results[reference] = error

    def get(self, reference):
        found = self.results[reference]
        if isinstance(found, Exception):
            raise found
        if reference.startswith("answer"):
            return [{"path": name} for name in self.results[found[0]][0]]
        return found


class _Task:
    def __init__(self, ray):
        self.remote = lambda *arguments: ray.ask("read", arguments)


class _Handle:
    def __init__(self, ray):
        self.is_dead = False
        for name, kind in (("is_there", "start"), ("load", "load"), ("answer", "answer")):
            asked = SimpleNamespace(remote=lambda *arguments, kind=kind: ray.ask(kind, arguments, self))
            setattr(self, name, asked)


@pytest.fixture
def run(tmp_path):
    """Return a function that runs the engine on 120 images in blocks of 32, and returns what it sent."""
    (tmp_path / "list.txt").write_text("".join(f"/{number}.png\n" for number in range(120)))
    listed = write_inputs(str(tmp_path / "list.txt"), tmp_path / "inputs")
    todo = Todo(listed.path, tuple(listed.offsets(48)), 8, tuple((number, None) for number in range(3)))

    def ran(ray, patience=1.0, address=None):
        sent = []
        plan = Plan(
            Machines(address, patience=patience), Looking(8, 1, None, 1.0), Answering("m", "ab", None, "soft", 8), todo
        )
        engine.Engine(ray, plan, sent.append).run(lambda: False)
        return sent

    return ran


def rows_of(sent):
    """Return the paths of all rows, in the order of the list."""
    blocks = {(each[1].shard, each[1].start): each for each in sent if each[0] == "rows"}
    assert len(blocks) == sum(each[0] == "rows" for each in sent)
    return [row["path"] for place in sorted(blocks) for row in blocks[place][2]]


ALL = [f"/{number}.png" for number in range(120)]


def test_every_image_is_answered_once(run):
    assert rows_of(run(FakeRay())) == ALL


@pytest.mark.parametrize("number", range(4, 60, 3))
def test_an_actor_that_ends_at_any_moment_loses_nothing(run, number):
    ended = []

    def happens(at, kind):
        if at >= number and not ended and kind in ("load", "answer"):
            ended.append(at)
            raise RayActorError("The actor died unexpectedly.")

    assert rows_of(run(FakeRay(happens))) == ALL


def test_a_loss_is_said(run):
    ended = []

    def happens(at, kind):
        if kind == "answer" and not ended:
            ended.append(at)
            raise RayActorError("The actor died unexpectedly.\nAnd more.")

    said = [each[1] for each in run(FakeRay(happens)) if each[0] == "said"]
    assert said == ["A process that answers was lost (The actor died unexpectedly); others take its images."]


def test_what_was_read_and_is_lost_is_read_again(run):
    lost = []

    def happens(at, kind):
        if kind == "answer" and not lost:
            lost.append(at)
            raise RayTaskError(RayError("The object was lost."))

    assert rows_of(run(FakeRay(happens))) == ALL


def test_images_that_end_every_process_end_the_work_and_are_named(run):
    def happens(at, kind):
        if kind == "answer":
            raise RayActorError("Out of memory.")

    reason = r"^The processes that read or answered /0.png and 31 images after it ended \(Out of memory\), 4 times"
    with pytest.raises(WorkError, match=reason):
        run(FakeRay(happens, cpus=1))


def test_a_model_that_never_loads_ends_the_work(run):
    def happens(at, kind):
        if kind == "load":
            raise RayActorError("Out of memory.")

    with pytest.raises(WorkError, match=r"^A process that was to load the model ended \(Out of memory\), 7 times"):
        run(FakeRay(happens))


def test_a_machine_that_cannot_use_the_model_says_why(run):
    def happens(at, kind):
        if kind == "load":
            raise RayTaskError(WorkError("On the machine b: no model."))

    with pytest.raises(WorkError, match=r"^On the machine b: no model\.$"):
        run(FakeRay(happens))


def test_a_bug_is_not_taken_for_a_loss(run):
    def happens(at, kind):
        if kind == "answer":
            raise RayTaskError(ZeroDivisionError("a bug"))

    with pytest.raises(RayTaskError, match="a bug"):
        run(FakeRay(happens))


def test_a_cluster_without_room_is_given_up_in_the_time_that_was_said(run):
    with pytest.raises(WorkError, match=r"^For 0\.2 s no process of the cluster could answer: it has 1 machine"):
        run(FakeRay(has_room=False), patience=0.2)


def test_a_head_that_is_lost_is_given_up_in_the_time_that_was_said(run, monkeypatch):
    def slowly(at, kind):
        time.sleep(0.05)

    monkeypatch.setattr(engine, "_LOOK", 0.0)
    monkeypatch.setattr(engine, "is_alive", lambda address: False)
    with pytest.raises(WorkError, match=r"head of the cluster at 10\.0\.0\.1:6379 has not answered for 0\.2 s"):
        run(FakeRay(slowly), 0.2, "10.0.0.1:6379")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("read", r"/0\.png and \d+ images beside it wait to be read: does the cluster have a free core"),
        ("answer", r"/0\.png and \d+ images beside it are with processes that answer: is one of them slow"),
    ],
)
def test_what_is_waited_for_is_said_in_the_time_that_was_stated_and_again(run, kind, words):
    class Stalls(FakeRay):
        def wait(self, references, num_returns, timeout, fetch_local):
            if time.monotonic() < until:
                self.asked.sort(key=lambda each: each[1] == kind)
                is_stalled = bool(self.asked) and self.asked[0][1] == kind
                if is_stalled and not any(reference in self.results for reference in references):
                    time.sleep(0.01)
                    return [], references
            return super().wait(references, num_returns, timeout, fetch_local)

    until = time.monotonic() + 1.0
    sent = run(Stalls(), patience=0.3)
    said = [each[1] for each in sent if each[0] == "said"]
    assert said
    assert re.match(rf"No answer came for 0\.3 s\. {words}", said[0])
    assert rows_of(sent) == ALL
