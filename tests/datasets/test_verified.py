"""When a set was verified is noted beside it, and what cannot be read of that counts as never."""

import json
from pathlib import Path

import pytest

from datasets.bach_bisque import verify
from datasets.bach_bisque.prepared import Prepared
from datasets.bach_bisque.verified import NAME, last_verification, record_verification
from datasets.catalogue import PHANTOM
from tests.datasets.a_set import write_set


@pytest.fixture
def prepared(tmp_path):
    return Prepared("phantom", write_set(tmp_path, "phantom", PHANTOM.records[:2]))


def test_each_file_that_changed_came_or_went_since_is_named(prepared):
    record_verification(prepared)
    assert last_verification(prepared.folder).changed == ()
    (prepared.folder / "new").touch()
    (prepared.folder / "metadata.json").write_text("{}")
    (prepared.folder / "dataset_info.json").unlink()
    assert last_verification(prepared.folder).changed == ("dataset_info.json", "metadata.json", "new")


def test_a_file_that_changes_while_the_set_is_read_has_changed_since(prepared, monkeypatch):
    def change(tables, files):
        (prepared.folder / "metadata.json").write_text("{}")
        return []

    monkeypatch.setattr(Prepared, "files", lambda prepared: {})
    monkeypatch.setattr(verify, "differences", change)
    assert prepared.differences() == []
    record_verification(prepared)
    assert last_verification(prepared.folder).changed == ("metadata.json",)


AT = '"at": "2026-12-01 09:30"'
ODD = ("", "[]", "{}", '{"at": 3, "files": {}}', '{"at": "today", "files": {}}', f'{{{AT}, "files": [1]}}',
       f'{{{AT}, "files": {{"x": 1}}}}')  # fmt: skip


@pytest.mark.parametrize("said", ODD)
def test_what_is_not_a_note_counts_as_none(prepared, said):
    (prepared.folder / NAME).write_text(said)
    assert last_verification(prepared.folder) is None


def test_a_folder_that_cannot_be_written_to_is_a_warning(prepared, monkeypatch, caplog):
    def refuse(path, value):
        raise OSError(f"{path} cannot be written: Read-only file system.")

    monkeypatch.setattr("datasets.bach_bisque.verified.write_json", refuse)
    record_verification(prepared)
    assert "When phantom was verified cannot be noted" in caplog.text


def test_the_note_holds_the_time_and_what_tells_a_changed_file(prepared):
    record_verification(prepared)
    said = json.loads((prepared.folder / NAME).read_text())
    status = Path(prepared.folder / "metadata.json").stat()
    assert said["files"]["metadata.json"] == [status.st_size, status.st_mtime_ns]
