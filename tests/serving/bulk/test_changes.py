import os
from dataclasses import replace

import pytest

from bach_keras.serving.bulk import bulk
from datasets.errors import UserError


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
