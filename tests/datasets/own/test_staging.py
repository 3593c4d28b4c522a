"""A preparation that was ended: what it encoded is kept, and the next one gives what an undisturbed one gives."""

import errno
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from datasets.bach_bisque.prepared import Prepared
from datasets.errors import UserError, WorkError
from datasets.own import staging
from datasets.own.prepare import Interrupted, prepare_own
from tests.datasets.conftest import fingerprint
from tests.datasets.own.own_images import folders, write

ROOT = Path(__file__).parents[3]


@pytest.fixture
def encoded(monkeypatch):
    """List the images that are encoded; an attribute says at which of them Ctrl-C is pressed."""

    class Encoded(list):
        ends_at = None

    made, encode = Encoded(), staging._encode

    def counted(image):
        if len(made) == made.ends_at:
            raise KeyboardInterrupt
        made.append(image.name)
        return encode(image)

    monkeypatch.setattr(staging, "_encode", counted)
    monkeypatch.setattr(staging, "image_threads", lambda: 1)
    return made


@pytest.fixture
def source(tmp_path):
    return folders(tmp_path / "images")


@pytest.fixture
def undisturbed(tmp_path, source):
    return fingerprint(prepare_own("a", source, tmp_path / "undisturbed"))


def end(name, source, data_dir, encoded, at):
    """Press Ctrl-C at an image."""
    encoded.clear()
    encoded.ends_at = at
    with pytest.raises(Interrupted) as ended:
        prepare_own(name, source, data_dir)
    encoded.clear()
    encoded.ends_at = None
    return str(ended.value)


@pytest.mark.parametrize("at", [0, 3, 7])
def test_ctrl_c_says_what_is_kept_and_the_next_time_does_the_rest(tmp_path, source, undisturbed, encoded, at):
    said = end("a", source, tmp_path / "data", encoded, at)
    kept = int(said.removeprefix("Interrupted: ").partition(" of 8 images are encoded and kept")[0])
    assert at - 1 <= kept <= at
    assert not Prepared("own-a", tmp_path / "data").is_built
    assert fingerprint(prepare_own("a", source, tmp_path / "data")) == undisturbed
    assert len(encoded) == 8 - kept
    assert not (tmp_path / "data" / "bach_bisque" / "own-a" / ".staged").exists()


def test_ctrl_c_in_the_search_for_near_copies_says_that_it_begins_again(tmp_path, source, undisturbed, monkeypatch):
    def ended(prepared, others):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("datasets.own.near.find_near", ended)
        with pytest.raises(Interrupted, match=r"8 of 8 images are encoded and kept: .* and looks for copies again\."):
            prepare_own("a", source, tmp_path / "data")
    assert fingerprint(prepare_own("a", source, tmp_path / "data")) == undisturbed


@pytest.mark.parametrize("removed", [None, "journal", "images"])
def test_what_a_preparation_killed_right_after_its_set_was_complete_kept_goes_with_the_next(
    tmp_path, source, undisturbed, monkeypatch, removed
):
    with monkeypatch.context() as killed:
        killed.setattr(staging.Staging, "discard", lambda self: None)
        kept = prepare_own("a", source, tmp_path / "data").path.parent / ".staged"
    assert kept.is_dir()
    if removed:
        (kept / removed).unlink()
    summary = prepare_own("a", source, tmp_path / "data")
    assert not summary.built
    assert fingerprint(summary) == undisturbed
    assert not kept.exists()


def spoil_journal(folder):
    with (folder / "journal").open("a") as file:
        file.write('{"name": "half a li')


def spoil_images(folder):
    content = bytearray((folder / "images").read_bytes())
    content[100] ^= 1
    (folder / "images").write_bytes(content)


def cut_images(folder):
    content = (folder / "images").read_bytes()
    (folder / "images").write_bytes(content[:-50])


def another_version(folder):
    journal = folder / "journal"
    journal.write_text(journal.read_text().replace("1.", "0.", 1))


def empty_journal(folder):
    (folder / "journal").write_text("")


@pytest.mark.parametrize("spoil", [spoil_journal, spoil_images, cut_images, another_version, empty_journal])
def test_what_is_damaged_in_what_was_kept_is_encoded_again(tmp_path, source, undisturbed, encoded, spoil):
    end("a", source, tmp_path / "data", encoded, 5)
    spoil(tmp_path / "data" / "bach_bisque" / "own-a" / ".staged")
    assert fingerprint(prepare_own("a", source, tmp_path / "data")) == undisturbed


def test_an_image_that_changed_is_encoded_again(tmp_path, source, encoded):
    end("a", source, tmp_path / "data", encoded, 6)
    write(source / "benign" / "b1.png", 500)
    (source / "benign" / "b0.png").touch()  # the same bytes: it need not be encoded again
    prepare_own("a", source, tmp_path / "data")
    assert "benign/b1.png" in encoded
    assert "benign/b0.png" not in encoded
    shutil.rmtree(tmp_path / "fresh", ignore_errors=True)
    fresh = fingerprint(prepare_own("a", source, tmp_path / "fresh"))
    assert fingerprint(Prepared("own-a", tmp_path / "data").summary()) == fresh


def test_images_that_are_refused_are_counted_and_the_others_need_not_be_encoded_again(tmp_path, source, encoded):
    content = (source / "normal" / "n1.png").read_bytes()
    for name in ("n1.png", "n2.png"):
        (source / "normal" / name).write_bytes(content[:-200])
    with pytest.raises(UserError, match=r"n1\.png is cut short.* 1 more image cannot be used either"):
        prepare_own("a", source, tmp_path / "data")
    assert not Prepared("own-a", tmp_path / "data").is_built
    encoded.clear()
    for number in (1, 2):
        write(source / "normal" / f"n{number}.png", number)
    prepare_own("a", source, tmp_path / "data")
    assert encoded == ["normal/n1.png", "normal/n2.png"]


def test_a_disk_that_fills_up_is_reported_and_what_was_encoded_is_kept(tmp_path, source, undisturbed, monkeypatch):
    add = staging.Staging.add

    def fill(self, staged, encoded):
        if len(self) == 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        return add(self, staged, encoded)

    with monkeypatch.context() as patched:
        patched.setattr(staging.Staging, "add", fill)
        with pytest.raises(WorkError, match=r"cannot be written: No space left on device\. Nothing was changed"):
            prepare_own("a", source, tmp_path / "data")
    with staging.Staging(tmp_path / "data" / "bach_bisque" / "own-a" / ".staged") as kept:
        assert len(kept) == 5
    assert fingerprint(prepare_own("a", source, tmp_path / "data")) == undisturbed


def test_a_disk_that_cannot_hold_the_set_is_refused_after_a_few_images(tmp_path, source, monkeypatch):
    asked = []

    def check_free(folder, needed):
        asked.append(needed)
        if len(asked) == 2:
            raise OSError(f"{folder} needs room")

    monkeypatch.setattr("datasets.own.prepare.check_free", check_free)
    monkeypatch.setattr("datasets.own.prepare._TRIED", 3)
    with pytest.raises(WorkError, match="needs room"):
        prepare_own("a", source, tmp_path / "data")
    assert asked[0] == 8 * 3 * 40 * 36
    # What is encoded already takes room no longer; the rest is written, and all of it once more as records.
    assert 1.5 * asked[0] < asked[1] < 2 * asked[0]
    assert not Prepared("own-a", tmp_path / "data").is_built


def test_a_preparation_that_is_killed_is_resumed(tmp_path, source, undisturbed):
    code = (
        "import sys, time; from pathlib import Path; from datasets.own import staging; "
        "from datasets.own.prepare import prepare_own; encode = staging._encode; "
        "staging._encode = lambda image: (time.sleep(.3), encode(image))[1]; "
        "prepare_own('a', Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, source, tmp_path / "data"], cwd=ROOT)
    journal = tmp_path / "data" / "bach_bisque" / "own-a" / ".staged" / "journal"
    while not (journal.is_file() and journal.read_bytes().count(b"\n") > 2):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert fingerprint(prepare_own("a", source, tmp_path / "data")) == undisturbed
    assert sorted(path.name for path in (tmp_path / "data" / "bach_bisque" / "own-a").iterdir()) == [
        ".prepare.lock",
        "1.2.0",
    ]
