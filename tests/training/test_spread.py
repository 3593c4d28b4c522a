"""Table 1 on a cluster: what waits for what, what is tried again, what gives up, and that the numbers are the same."""

import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from bach_keras.training import spread, spread_run
from bach_keras.training.spread import Cluster, train_on_cluster
from bach_keras.training.stops import Interrupted
from bach_keras.training.table1_plan import Plan, plan_system
from benchmarks.kills import compare
from cli import cli
from datasets import locked
from datasets.errors import UserError, WorkError

ROOT = Path(__file__).parents[2]


class LostError(Exception):
    pass


class LocalLostError(Exception):
    pass


class FakeRay:
    """Runs a task when it is waited for; ``lose`` are the numbers of tasks whose machine is lost."""

    exceptions = SimpleNamespace(
        NodeDiedError=LostError, WorkerCrashedError=LostError, OutOfMemoryError=LostError, ObjectLostError=LostError,
        LocalRayletDiedError=LocalLostError,
    )  # fmt: skip

    def __init__(self, machines=({"CPU": 2.0}, {"CPU": 4.0}), lose=(), error=LostError):
        self.machines, self.lose, self.error = machines, lose, error
        self.tasks, self.sizes, self.ended = [], [], []

    def nodes(self):
        return [{"Alive": True, "Resources": machine} for machine in self.machines]

    def remote(self, **size):
        self.sizes.append(size)
        return lambda work: SimpleNamespace(remote=lambda: self.tasks.append(work) or len(self.tasks) - 1)

    def wait(self, tasks, **options):
        return tasks[:1], tasks[1:]

    def get(self, task):
        if task in self.lose:
            raise self.error
        self.ended.append(task)
        return self.tasks[task]()


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """Return a function that trains the plan of phantoms on a fake cluster, by making the files of finished runs."""
    runs, _ = plan_system("phantom", "patient", 0, tmp_path, "none")
    order = []
    monkeypatch.setattr(spread, "is_alive", lambda address: True)
    monkeypatch.setattr(spread, "is_finished", lambda folder: (folder / "done").exists())
    monkeypatch.setattr(spread, "finish", lambda job: None)

    def train(packed, signs, number):
        folder, _ = pickle.loads(packed)
        folder.mkdir(parents=True)
        (folder / "done").touch()
        order.append(folder.name)
        return "a machine", ""

    monkeypatch.setattr(spread_run, "train_here", train)
    monkeypatch.setattr(os, "environ", dict(os.environ))

    def run(ray):
        train_on_cluster(SimpleNamespace(runs=runs, out=tmp_path), lambda each: each.folder, Cluster(ray, "h:1"), None)
        return order

    return run, runs, tmp_path


def test_every_run_is_trained_once_and_after_those_that_it_needs(planned):
    run, runs, place = planned
    ray = FakeRay()
    order = run(ray)
    assert sorted(order) == sorted(each.folder.name for each in runs)
    for each in runs:
        for need in filter(None, (each.parent, each.stop_at)):
            assert order.index(need.name) < order.index(each.folder.name)
    # A run takes as many cores as the smallest machine has, in a process of its own that Ray does not try again.
    assert ray.sizes == [{"max_calls": 1, "max_retries": 0, "num_cpus": 2.0}] * len(runs)
    assert [path.name for path in place.iterdir()] == ["patient-seed0"]
    again = FakeRay()
    run(again)
    assert again.tasks == []


def test_a_run_takes_a_gpu_where_the_cluster_has_one(planned):
    ray = FakeRay(machines=[{"CPU": 4.0}, {"CPU": 8.0, "GPU": 2.0}])
    planned[0](ray)
    assert {size["num_gpus"] for size in ray.sizes} == {1}


def test_a_run_whose_machine_is_lost_is_given_to_another(planned):
    run, runs, _ = planned
    ray = FakeRay(lose={0, 2})
    assert len(run(ray)) == len(runs)
    assert len(ray.tasks) == len(runs) + 2


def test_a_run_that_is_always_lost_ends_the_command_in_a_sentence(planned):
    with pytest.raises(WorkError, match="phantom-carci was lost with its machine or process 5 times"):
        planned[0](FakeRay(lose=range(1000)))


def test_ray_lost_on_this_machine_is_said(planned):
    with pytest.raises(WorkError, match="Ray on this machine has ended"):
        planned[0](FakeRay(lose={0}, error=LocalLostError))


def test_a_run_that_fails_ends_the_command_and_names_its_machine(planned, monkeypatch):
    monkeypatch.setattr(spread_run, "train_here", lambda *given: ("a machine", "the loss is nan"))
    with pytest.raises(WorkError, match="phantom-carci failed on a machine: the loss is nan"):
        planned[0](FakeRay())


def test_a_run_that_is_finished_elsewhere_and_not_here_names_shared_storage(planned, monkeypatch):
    monkeypatch.setattr(spread_run, "PATIENCE", 0)
    monkeypatch.setattr(spread_run, "train_here", lambda *given: ("a machine", ""))
    with pytest.raises(WorkError, match="must be on storage that all machines share"):
        planned[0](FakeRay())


def test_a_cluster_without_a_core_is_refused(planned):
    with pytest.raises(UserError, match="No machine of the cluster at h:1 has a core"):
        planned[0](FakeRay(machines=[{"memory": 1.0}]))


@pytest.mark.parametrize(
    ("alive", "machines", "words"),
    [
        (False, [{"CPU": 2.0}], "The head of the cluster at h:1 has not answered for 0 seconds"),
        (True, [{"CPU": 1.0}], "no machine of the cluster at h:1 has had 2 cores"),
    ],
)
def test_a_cluster_that_cannot_finish_is_given_up(monkeypatch, alive, machines, words):
    monkeypatch.setattr(spread, "is_alive", lambda address: alive)
    for name in ("PATIENCE", "_PATIENCE_WITH_HEAD", "_LOOK"):
        monkeypatch.setattr(spread, name, 0)
    watch = spread._Watch(Cluster(FakeRay(machines), "h:1"), {"num_cpus": 2.0})
    time.sleep(0.01)
    with pytest.raises(WorkError, match=words):
        watch.look()


def test_ctrl_c_stops_the_runs_and_says_what_is_kept(planned):
    run, _, place = planned

    class InterruptedRay(FakeRay):
        def wait(self, tasks, **options):
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="were stopped, and keep their last complete epochs"):
        run(InterruptedRay())
    assert list(place.iterdir()) == []  # the sign by which runs see that they are to stop is gone


def test_a_machine_that_does_not_see_the_folder_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(spread_run, "PATIENCE", 0)
    _, fault = spread_run.train_here(b"", str(tmp_path / "signs"), 1)
    assert "storage that all machines share" in fault


def test_a_run_stops_when_its_sign_is_gone(monkeypatch, tmp_path):
    monkeypatch.setattr(spread_run, "LOOK", 0.01)
    monkeypatch.setattr(spread_run, "alone", lambda work, packed: (shutil.rmtree(tmp_path), time.sleep(30)))
    handler = signal.getsignal(signal.SIGINT)
    try:
        _, fault = spread_run.train_here(b"", str(tmp_path), 1)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert fault.startswith("it was stopped")


def test_a_run_that_another_process_trains_is_waited_for(monkeypatch, tmp_path):
    monkeypatch.setattr(spread_run, "LOOK", 0.01)
    job, first = SimpleNamespace(folder=tmp_path / "run"), threading.Event()

    def hold():
        with spread_run._only_one(job):
            first.set()
            time.sleep(0.2)

    holder = threading.Thread(target=hold)
    holder.start()
    first.wait()
    monkeypatch.setattr(spread_run, "PATIENCE", 0)
    with pytest.raises(WorkError, match="another process trains it"), spread_run._only_one(job):
        pass
    monkeypatch.setattr(spread_run, "PATIENCE", 60)
    with spread_run._only_one(job):
        holder.join()


def test_a_run_on_a_disk_without_locks_is_trained_with_a_warning(monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(locked, "fcntl", None)
    with spread_run._only_one(SimpleNamespace(folder=tmp_path / "run")):
        assert f"The disk of {tmp_path} has no file locks" in caplog.text


def test_reproduce_at_an_address_without_a_cluster_trains_nothing(tmp_path):
    out = tmp_path / "out"
    ended = CliRunner().invoke(cli, ["reproduce", "--config", "phantom", "--address", "127.0.0.1:1", "--out", str(out)])
    assert ended.exit_code == 2
    assert "No Ray cluster answered at 127.0.0.1:1 within 5 seconds" in ended.stderr
    assert not out.exists()


# Two machines of Ray in a network and a process space of their own; the second is lost once both train.
_TWO_MACHINES = r"""
ip link set lo up
RAY=$(mktemp -d /tmp/ray-XXXXXX)  # the names of sockets must be short
trap 'rm -rf $RAY' EXIT
ray start --head --num-cpus 1 --port 6379 --node-ip-address 127.0.0.1 --temp-dir $RAY --include-dashboard false $MORE
ray start --num-cpus 1 --address 127.0.0.1:6379 --node-ip-address 127.0.0.1 --node-name lost $MORE
(
    until [ $(find $TMP/cluster -name history.csv | wc -l) = 2 ]; do sleep 0.2; done
    for pid in $(pgrep -x raylet); do grep -qa 'node-name=lost\|node_name=lost' /proc/$pid/cmdline && kill -9 $pid; done
) 2>/dev/null &
python -m tests.training.test_spread $TMP/cluster 127.0.0.1:6379
"""


def _few_runs(out: Path, address: str) -> None:
    """Train two runs that do not need each other; called in the network of the test below."""
    from bach_keras.cluster import connected
    from bach_keras.training import table1
    from tests.few_phantoms import RECIPE, few_phantoms
    from tests.trainings import RANDOM

    runs = plan_system("phantom", "patient", 0, out, "none")[0][:2]
    plan = Plan("phantom", out, runs, [], {("phantom", "patient"): few_phantoms()})
    with connected(address, is_quiet=True) as ray:
        train_on_cluster(
            plan, lambda each: table1._job(each, plan, RECIPE, RANDOM), Cluster(ray, address), prepare=None
        )


@pytest.mark.long
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a network of its own")
def test_runs_on_two_machines_of_which_one_is_lost_are_those_of_one_machine(tmp_path):
    from bach_keras.training import table1
    from bach_keras.training.train import finish
    from tests.few_phantoms import RECIPE, few_phantoms
    from tests.trainings import RANDOM

    environment = os.environ | {
        "TMP": str(tmp_path), "MORE": "--disable-usage-stats --object-store-memory 100000000",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "RAY_USAGE_STATS_ENABLED": "0",
    }  # fmt: skip
    own = ["unshare", "--net", "--pid", "--fork", "--mount-proc", "--kill-child"]
    ended = subprocess.run(
        [*own, "bash", "-c", _TWO_MACHINES], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900,
        check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    assert "resumes on another" in ended.stdout
    runs = plan_system("phantom", "patient", 0, tmp_path / "here", "none")[0][:2]
    plan = Plan("phantom", tmp_path / "here", runs, [], {("phantom", "patient"): few_phantoms()})
    for each in runs:
        finish(table1._job(each, plan, RECIPE, RANDOM))
        there = tmp_path / "cluster" / each.folder.relative_to(plan.out)
        assert compare(each.folder, there) == []


if __name__ == "__main__":
    import logging

    logging.basicConfig(level=logging.INFO, stream=sys.stdout)
    _few_runs(Path(sys.argv[1]), sys.argv[2])
