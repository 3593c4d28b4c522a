import fcntl
import json
import os
import random
import subprocess
import sys
import time
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from bach_keras.serving.bulk import bulk
from bach_keras.serving.bulk.plan import Answering, Machines
from datasets import locked
from datasets.errors import UserError, WorkError
from tests.full_disk import fill_the_disk

NAMES = [f"/images/{number}.png" for number in range(29)]


def rows_of(folder):
    return [row for path in sorted(folder.glob("part-*.parquet")) for row in pq.read_table(path).to_pylist()]


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".parquet", ".json")}


def test_each_image_has_one_row_in_the_order_of_the_list(job, run):
    made = job(NAMES)
    manifest = run(made)
    assert [row["path"] for row in rows_of(made.out)] == NAMES
    assert (manifest.rows, manifest.errors, len(manifest.shards)) == (29, 0, 4)
    written = json.loads((made.out / "manifest.json").read_text())
    assert (written["complete"], written["rows"], written["input"]["count"]) == (True, 29, 29)


def test_errors_are_rows_and_are_counted(job, run):
    made = job([*NAMES[:9], "/bad.png"])
    manifest = run(made)
    assert (manifest.errors, manifest.shards["part-00001.parquet"].errors) == (1, 1)
    assert [row["error"] for row in rows_of(made.out)][9] == "/bad.png is empty."


@pytest.mark.parametrize("fault", ["failed 3", "dies 3"])
def test_what_was_answered_before_the_cluster_was_lost_is_not_computed_again(job, run, fault):
    made = job(NAMES)
    with pytest.raises(WorkError):
        run(made, fault)
    before = {path.name: path.stat().st_mtime_ns for path in made.out.glob("part-*")}
    assert 0 < len(before) < 4
    run(made)
    after = {path.name: path.stat().st_mtime_ns for path in made.out.glob("part-*")}
    assert before.items() <= after.items()
    assert [row["path"] for row in rows_of(made.out)] == NAMES


def test_files_of_the_users_own_are_neither_written_over_nor_removed(job, run):
    made = job(NAMES)
    made.out.mkdir(exist_ok=True)
    for name, content in (("inputs", b"a.png\n"), ("part-00000.parquet", b"x")):
        (made.out / name).write_bytes(content)
        with pytest.raises(UserError, match=f"holds {name}, but not the manifest.json of a bulk: .* another --out"):
            run(made)
        assert {path.name: path.read_bytes() for path in made.out.iterdir()} == {name: content}
        (made.out / name).unlink()
    (made.out / ".lock").write_bytes(b"mine")
    with pytest.raises(UserError, match="not a multiple"):
        run(replace(made, shard_size=made.answering.batch + 1))
    assert [path.name for path in made.out.iterdir()] == [".lock"]


def test_a_finished_job_is_not_started_again(job, run):
    made = job(NAMES)
    run(made)
    assert run(made, "failed 0").rows == 29


def test_a_shard_that_is_not_as_it_was_recorded_is_answered_again(job, run, caplog):
    made = job(NAMES)
    run(made)
    whole = files_of(made.out)
    (made.out / "part-00000.parquet").write_bytes(b"half")
    (made.out / "part-00002.parquet").unlink()
    run(made)
    assert files_of(made.out) == whole
    assert "part-00002.parquet is missing or damaged" in caplog.text


def test_a_shard_that_was_renamed_but_not_recorded_does_not_count(job, run):
    made = job(NAMES)
    run(made)
    whole = files_of(made.out)
    values = json.loads((made.out / "manifest.json").read_text())
    values |= {"shards": values["shards"][1:], "rows": values["rows"] - 8, "complete": False}
    (made.out / "manifest.json").write_text(json.dumps(values))
    run(made)
    assert files_of(made.out) == whole


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"answering": Answering("other", "cd" * 32, None, "soft", 4)}, "answers of another model"),
        ({"answering": Answering("model", "ab" * 32, None, "routed", 4)}, "with routing soft, and not with routing"),
        ({"shard_size": 12}, "started with --shard-size 8"),
        ({"shard_size": 6}, "not a multiple of --batch-size 4"),
    ],
)
def test_answers_of_different_kinds_are_not_mixed(job, run, change, reason):
    made = job(NAMES)
    run(made)
    whole = files_of(made.out)
    with pytest.raises(UserError, match=reason):
        run(replace(made, **change))
    assert files_of(made.out) == whole


def test_another_list_is_refused_and_the_first_one_kept(job, run):
    made = job(NAMES)
    with pytest.raises(WorkError):
        run(made, "failed 3")
    with pytest.raises(UserError, match=r"29 images of .*list.txt, and not these 30"):
        run(job([*NAMES, "/one more.png"]))
    run(job(NAMES))
    assert [row["path"] for row in rows_of(made.out)] == NAMES


def test_a_folder_that_is_spelled_otherwise_is_the_same(job, run, tmp_path, monkeypatch):
    for place in ("archive", "elsewhere"):
        (tmp_path / place).mkdir()
    for number in range(10):
        (tmp_path / "archive" / f"{number}.png").write_text(f"{number}")
    monkeypatch.chdir(tmp_path)
    made = job([], source="archive/")
    with pytest.raises(WorkError):
        run(made, "failed 1")
    assert run(replace(made, source=str(tmp_path / "archive"))).rows == 10
    whole = files_of(made.out)
    monkeypatch.chdir(tmp_path / "elsewhere")
    run(replace(made, source="../archive"), "failed 0")
    assert files_of(made.out) == whole
    assert [row["path"] for row in rows_of(made.out)] == [f"archive/{number}.png" for number in range(10)]


def test_relative_paths_that_begin_elsewhere_are_another_input(job, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = job(["a.png", "b.png"])
    run(made)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    reason = rf"relative paths that begin in {tmp_path}, and now they begin in {tmp_path}/elsewhere: give the command"
    with pytest.raises(UserError, match=reason):
        run(made)
    run(job([f"{tmp_path}/a.png", "../b.png"]), "failed 0")
    with pytest.raises(UserError, match=r"2 images of .*list\.txt, and not those that it names now, as many"):
        run(job(["a.png", "c.png"]))


def test_a_manifest_of_something_else_is_refused(job, run):
    made = job(NAMES)
    made.out.mkdir()
    (made.out / "manifest.json").write_text('{"name": "a web page"}')
    with pytest.raises(UserError, match=r"manifest.json is not a manifest of `bulk` \(format is missing\)"):
        run(made)


@pytest.mark.parametrize("name", ["../part-00000.parquet", "part-00000.parquet/../x", "/etc/passwd", "part-0.parquet"])
def test_a_manifest_names_no_file_elsewhere(job, run, name):
    made = job(NAMES)
    run(made)
    values = json.loads((made.out / "manifest.json").read_text())
    values["shards"][0]["name"] = name
    (made.out / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match="is not a manifest"):
        run(made)


def test_nothing_is_begun_where_ray_cannot_be_reached(job, run):
    made = job(NAMES)
    with pytest.raises(UserError, match="The cluster is full"):
        run(made, "refused 0")
    assert not made.out.exists()


def test_a_process_that_says_nothing_is_given_up(job, run, monkeypatch):
    monkeypatch.setattr("bach_keras.serving.bulk.bulk._SILENCE", 0.5)
    monkeypatch.setattr("bach_keras.serving.bulk.bulk._END", 0.1)
    with pytest.raises(WorkError, match=r"Ray has not answered for 4\.5 s"):
        run(job(NAMES, machines=Machines(patience=4.0)), "hangs 3")


@pytest.mark.parametrize(("before", "name"), [("Plan", "manifest.json"), ("_run", "part-00003.parquet")])
def test_a_full_disk_is_one_sentence_and_the_next_run_finishes(job, run, monkeypatch, before, name):
    made, following = job(NAMES), getattr(bulk, before)

    def full(*args):
        fill_the_disk(made.out / name)
        return following(*args)

    with monkeypatch.context() as patch:
        patch.setattr(bulk, before, full)
        with pytest.raises(WorkError, match=f"{name} cannot be written: No space left on device"):
            run(made)
    run(made)
    assert [row["path"] for row in rows_of(made.out)] == NAMES


def test_errors_are_answered_again_with_their_batches_alone(job, run, monkeypatch):
    made = job([*NAMES[:12], "/bad.png", *NAMES[12:]])
    run(made)
    whole, times = files_of(made.out), {path.name: path.stat().st_mtime_ns for path in made.out.glob("part-*")}
    asked = []
    plan = bulk.Plan
    monkeypatch.setattr(bulk, "Plan", lambda *args: asked.extend(args[-1].blocks()) or plan(*args))
    run(replace(made, again=("errors",)))
    assert [(block.shard, block.start, len(block.names)) for block in asked] == [(1, 4, 4)]
    assert files_of(made.out) == whole
    changed = [path.name for path in made.out.glob("part-*") if path.stat().st_mtime_ns != times[path.name]]
    assert changed == ["part-00001.parquet"]


def test_two_at_once_do_not_write_into_one_folder(job, run):
    made = job(NAMES)
    made.out.mkdir()
    with (made.out / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="Another bulk writes into"):
            run(made)


def test_a_disk_without_locks_is_written_to_with_a_warning(job, run, monkeypatch, caplog):
    monkeypatch.setattr(locked, "fcntl", None)
    made = job(NAMES)
    assert run(made).rows == len(NAMES)
    assert f"The disk of {made.out} has no file locks" in caplog.text


KILLED = """
import sys
from pathlib import Path
from bach_keras.serving.answers import Outputs
from bach_keras.serving.bulk import bulk
from bach_keras.serving.bulk.plan import Answering, Looking, Machines
from tests.serving.bulk import fake_engine
if __name__ == "__main__":
    bulk.serve = fake_engine.serve
    job = bulk.Job(sys.argv[1], Path(sys.argv[2]), Answering("model", "ab" * 32, None, "soft", 4),
                   Looking(8, 1, None, 10.0), Machines(), 8)
    print("begun", flush=True)
    bulk.run_bulk(job, Outputs())
"""


def test_killed_at_any_moment_it_finishes_as_if_it_had_not_been(job, run, tmp_path):
    names = [f"/images/{number}.png" for number in range(160)]
    undisturbed = job(names, out=tmp_path / "undisturbed")
    run(undisturbed)
    made = job(names)
    (tmp_path / "killed.py").write_text(KILLED)
    draw, written = random.Random(0), 0
    for _ in range(4):
        with subprocess.Popen(
            [sys.executable, str(tmp_path / "killed.py"), made.source, str(made.out)],
            env=os.environ | {"FAKE": "slow 0.05", "PYTHONPATH": f"{os.getcwd()}:{os.environ['PYTHONPATH']}"},
            stdout=subprocess.PIPE,
        ) as process:
            process.stdout.readline()
            wanted = written + draw.randint(1, 3)  # of 20 shards
            while written < wanted and process.poll() is None:
                written = len(list(made.out.glob("part-*")))
            time.sleep(draw.uniform(0, 0.05))
            assert process.poll() is None
            process.kill()
    run(made)
    assert files_of(made.out) == files_of(undisturbed.out)
