"""A lock that one process holds, and what becomes of its file."""

import errno
import os

import pytest

from datasets import locked
from datasets.errors import UserError
from datasets.locked import only_one


def test_only_one_holds_a_lock_and_its_file_goes_with_it(tmp_path):
    path = tmp_path / ".lock"
    with only_one(path, "it is taken", "it"):
        with pytest.raises(UserError, match=r"^it is taken$"), only_one(path, "it is taken", "it"):
            raise AssertionError
        assert path.exists()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_whose_file_its_owner_removed_is_taken_again(tmp_path, monkeypatch):
    path, lock = tmp_path / ".lock", locked.lock
    removed = []

    def late(file):
        if not removed:
            removed.append(path.unlink())
        return lock(file)

    monkeypatch.setattr(locked, "lock", late)
    with only_one(path, "", ""), pytest.raises(UserError, match="taken"), only_one(path, "taken", ""):
        raise AssertionError


def test_a_disk_without_locks_is_said_and_the_work_is_done(tmp_path, monkeypatch, caplog):
    def flock(file, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(locked.fcntl, "flock", flock)
    with only_one(tmp_path / ".lock", "", "another export to it"):
        pass
    assert "has no file locks, so this continues without one: run another export to it only after it." in caplog.text
    assert list(tmp_path.iterdir()) == []
