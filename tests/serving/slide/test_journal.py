import resource

import pytest

from bach_keras.serving.slide.journal import NAME, open_journal
from datasets import locked

SETTINGS, ROWS = {"model": "a", "overlap": 0.5}, [{"label": "normal", "share": 0.1 + 0.2}, {"error": "\udcff \u2028"}]


def test_rows_are_read_back_as_they_were_phase_by_phase(tmp_path):
    with open_journal(tmp_path, SETTINGS) as journal:
        journal.add("first", ROWS)
        journal.add("second", ROWS[:1])
        journal.add("first", ROWS[1:])
    with open_journal(tmp_path, SETTINGS) as journal:
        assert journal.rows("first") == [*ROWS, ROWS[1]]
        assert journal.rows("second") == ROWS[:1]
        assert journal.rows("third") == []
        assert journal.other is None


def test_rows_are_there_though_nobody_closed_the_file(tmp_path):
    with open_journal(tmp_path, SETTINGS) as journal:
        journal.add("first", ROWS)
        copy = (tmp_path / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(copy)
    with open_journal(tmp_path, SETTINGS) as journal:
        assert journal.rows("first") == ROWS


@pytest.mark.parametrize("end", range(0, 260, 13))
def test_of_a_torn_journal_the_whole_lines_are_kept_and_it_can_be_written_on(end, tmp_path):
    with open_journal(tmp_path, SETTINGS) as journal:
        journal.add("first", ROWS)
        journal.add("first", ROWS)
    file = tmp_path / NAME
    content = file.read_bytes()
    file.write_bytes(content[:end])
    kept = max(0, content[:end].count(b"\n") - 1)
    with open_journal(tmp_path, SETTINGS) as journal:
        assert journal.rows("first") == ROWS * kept
        for _ in range(2 - kept):
            journal.add("first", ROWS)
    assert file.read_bytes() == content


def test_a_line_that_was_changed_is_dropped_with_all_behind_it(tmp_path):
    with open_journal(tmp_path, SETTINGS) as journal:
        for _ in range(3):
            journal.add("first", ROWS)
    file = tmp_path / NAME
    lines = file.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b"normal", b"benign")
    file.write_bytes(b"".join(lines))
    with open_journal(tmp_path, SETTINGS) as journal:
        assert journal.rows("first") == ROWS


def test_a_journal_of_other_settings_is_emptied_and_named(tmp_path):
    with open_journal(tmp_path, SETTINGS) as journal:
        journal.add("first", ROWS)
    with open_journal(tmp_path, SETTINGS | {"model": "b"}) as journal:
        assert journal.other == SETTINGS
        assert journal.rows("first") == []


@pytest.mark.parametrize("content", [b"", b"no journal", b"\0" * 5000, b"\n\n\n"])
def test_a_file_that_is_no_journal_is_begun_again(content, tmp_path):
    (tmp_path / NAME).write_bytes(content)
    with open_journal(tmp_path, SETTINGS) as journal:
        assert journal.rows("first") == []
        journal.add("first", ROWS)
    with open_journal(tmp_path, SETTINGS) as journal:
        assert journal.rows("first") == ROWS


def test_a_journal_that_cannot_grow_is_named_and_keeps_its_whole_lines(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with open_journal(tmp_path, SETTINGS) as journal:
            journal.add("first", ROWS)
            resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / NAME).stat().st_size + 20, limits[1]))
            with pytest.raises(OSError, match=r"answers\.jsonl cannot be written: File too large"):
                journal.add("first", ROWS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    with open_journal(tmp_path, SETTINGS) as journal:
        assert journal.rows("first") == ROWS


def test_one_process_writes_at_a_time(tmp_path):
    with (
        open_journal(tmp_path, SETTINGS),
        pytest.raises(ValueError, match="Another process writes"),
        open_journal(tmp_path, SETTINGS),
    ):
        pass
    with open_journal(tmp_path, SETTINGS) as journal:
        journal.remove()
    assert not (tmp_path / NAME).exists()


def test_a_disk_without_locks_is_written_to_with_a_warning(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(locked, "fcntl", None)
    with open_journal(tmp_path, SETTINGS) as journal:
        journal.add("all", [{"x": 1}])
    assert f"The disk of {tmp_path} has no file locks" in caplog.text
    with open_journal(tmp_path, SETTINGS) as journal:
        assert journal.rows("all") == [{"x": 1}]
