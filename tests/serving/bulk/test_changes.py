import json
import os
from dataclasses import replace

import pytest

from bach_keras.serving.bulk import bulk
from bach_keras.serving.bulk.manifest import Manifest
from datasets.errors import UserError, WorkError


@pytest.fixture
def finished(job, run, tmp_path):
    """A finished job on eleven files that are there, and a row each with what they were."""
    names = [tmp_path / f"{number}.png" for number in range(11)]
    for name in names:
        name.write_text(name.name)
    made = job(names)
    run(made)
    return made, names


def _touch(path):
    os.utime(path, ns=(1, 1))


def test_a_file_that_was_only_touched_is_not_answered_again(finished, run):
    made, names = finished
    _touch(names[3])
    assert run(made, "failed 0").rows == 11


def test_a_file_of_other_bytes_is_refused_by_name(finished, run):
    made, names = finished
    names[3].write_text("other")
    names[9].write_text("another")
    with pytest.raises(UserError, match=f"2 files changed after being answered, such as {names[3]}"):
        run(made)


def test_changed_files_are_answered_again_on_demand(finished, run, monkeypatch):
    made, names = finished
    names[9].write_text("another")
    asked, plan = [], bulk.Plan
    monkeypatch.setattr(bulk, "Plan", lambda *args: asked.extend(args[-1].blocks()) or plan(*args))
    run(replace(made, again=("changed",)))
    assert [block.names for block in asked] == [(str(names[8]), str(names[9]), str(names[10]))]
    run(made)


def test_a_file_that_is_gone_stays_answered(finished, run):
    made, names = finished
    names[3].unlink()
    assert run(made, "failed 0").rows == 11


@pytest.mark.parametrize("fault", ["refused 0", "failed 1", "dies 1"])
def test_answers_count_until_those_that_replace_them_are_written(finished, run, fault):
    made, names = finished
    for place in (3, 9):
        names[place].write_text("other")
    whole = manifest_of(made.out)
    with pytest.raises((UserError, WorkError)):
        run(replace(made, again=("changed",)), fault)
    there = manifest_of(made.out)
    assert (there["rows"], there["complete"]) == (11, True)
    # The engine of these tests answers the last shard first.
    assert (there == whole) == (fault == "refused 0")
    with pytest.raises(UserError, match=r"changed after being answered, such as .*/3\.png"):
        run(made)
    assert run(replace(made, again=("changed",))).rows == 11
    assert run(made, "failed 0").rows == 11


def test_a_shard_whose_replacement_could_not_be_recorded_is_put_back(finished, run, monkeypatch):
    made, names = finished
    names[3].write_text("other")
    before, write, calls = (made.out / "part-00000.parquet").read_bytes(), Manifest.write, []

    def fails(manifest, folder):
        calls.append(folder)
        if len(calls) == 2:  # the first is before the work
            raise OSError(28, "No space left on device")
        write(manifest, folder)

    with monkeypatch.context() as patch:
        patch.setattr(Manifest, "write", fails)
        with pytest.raises(WorkError, match="No space left on device"):
            run(replace(made, again=("changed",)))
    names[3].write_text(names[3].name)
    assert run(made, "failed 0").rows == 11
    assert (made.out / "part-00000.parquet").read_bytes() == before
    assert not list(made.out.glob(".part-*"))


def manifest_of(folder):
    return json.loads((folder / "manifest.json").read_text())
