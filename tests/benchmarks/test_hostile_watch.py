"""What the campaign of hostile inputs sees of a door that does what it must not."""

import json
import subprocess
import sys
import zipfile
from types import SimpleNamespace

import pytest

from benchmarks.hostile import campaign as campaign_room
from benchmarks.hostile import own_sets, servers
from benchmarks.hostile.__main__ import main
from benchmarks.hostile.answer import CRASHED, HUNG
from benchmarks.hostile.archives import archives, zipped
from benchmarks.hostile.campaign import Campaign, Tally
from benchmarks.hostile.commands import written
from benchmarks.hostile.doors import DOORS, Door
from benchmarks.hostile.watch import ROOT, Canaries, tree_of
from datasets.bach_bisque.sources import find_images
from datasets.catalogue import BACH, BISQUE

_GUARDED = """
import os, pathlib, pickle, socket, subprocess, sys
from benchmarks.hostile.watch import Guard
place = pathlib.Path(sys.argv[1])
guard = Guard(place, place / "noted")
guard.start()
try:
    exec(sys.argv[2])
except Exception:
    pass
guard.stop()
if len(sys.argv) > 3:
    os._exit(1)
print(*guard.taken(), sep="\\n")
"""


def guarded(place, act, *more):
    """Run Python in a guarded process, and return what was noted."""
    place.mkdir(exist_ok=True)
    words = [sys.executable, "-c", _GUARDED, place, act, *more]
    done = subprocess.run(map(str, words), cwd=ROOT, capture_output=True, text=True, check=not more)
    return done.stdout.split("\n")[:-1]


@pytest.mark.parametrize(
    ("act", "noted"),
    [
        ("open(place / 'outside', 'w')", "writes "),
        ("open(place.parent / 'secret')", "reads "),
        ("open(place / 'canary' / 'secret')", "reads "),
        ("open('/etc/passwd')", "reads /etc/passwd"),
        ("os.rename(place / 'noted', place / 'work')", "os.rename "),
        ("subprocess.run(['true'])", "subprocess.Popen "),
        ("os.system('true')", "os.system "),
        ("pickle.loads(b'cposix\\nsystem\\n.')", "unpickles posix.system"),
        # Events of Python's sockets, which the tests may not use.
        ("guard._hook('socket.getaddrinfo', ('hostile.invalid', 80, 0, 0, 0,))", "looks up hostile.invalid"),
        ("guard._hook('socket.gethostbyname', ('hostile.invalid',))", "looks up hostile.invalid"),
        ("guard._hook('socket.connect', (None, ('192.0.2.1', 9),))", "connects to ('192.0.2.1', 9)"),
        ("guard._hook('socket.sendto', (None, ('192.0.2.1', 9),))", "connects to ('192.0.2.1', 9)"),
    ],
)
def test_what_a_door_must_not_do_is_noted(tmp_path, act, noted):
    found = guarded(tmp_path / "place", act)
    assert any(each.startswith(noted) for each in found), found


def test_what_a_door_may_do_is_not_noted(tmp_path):
    (tmp_path / "place" / "out").mkdir(parents=True)
    acts = ("open(place / 'out' / 'a', 'w').close()", "open(place / 'noted').close()",
            "guard._hook('socket.getaddrinfo', ('localhost', 80, 0, 0, 0))", "import colorsys")  # fmt: skip
    assert guarded(tmp_path / "place", "; ".join(acts)) == [""]


def test_what_was_noted_is_there_after_the_process_has_died(tmp_path):
    assert guarded(tmp_path / "place", "os.system('true')", "dies") == []
    assert (tmp_path / "place" / "noted").read_text().startswith("os.system")


def test_a_file_that_appears_or_changes_is_seen(tmp_path):
    (tmp_path / "a").write_text("1")
    before = tree_of(tmp_path)
    assert tree_of(tmp_path) == before
    (tmp_path / "ran").touch()
    assert tree_of(tmp_path) != before


# A door's process that says these lines and ends so.
_SAYS = "import sys, time; print(end=sys.argv[1], flush=True); exec(sys.argv[2])"
READY = json.dumps({"ready": 1.0})


@pytest.fixture
def campaign(tmp_path):
    """A campaign without inputs or models."""
    for name in ("work", "inputs"):
        (tmp_path / name).mkdir()
    made = Campaign.__new__(Campaign)
    made._place, made._canaries = tmp_path, Canaries(tmp_path)
    (tmp_path / "list.json").write_text(json.dumps([b"a".hex()]))
    made._inputs = SimpleNamespace(write=lambda name, kinds: tmp_path / "list.json")
    return made


def says(campaign, monkeypatch, lines, then="pass"):
    """Let a door's process say lines and do something, and return what is made of it."""
    popen = subprocess.Popen

    def start(command, **how):
        return popen([sys.executable, "-c", _SAYS, "".join(f"{line}\n" for line in lines), then], **how)

    with monkeypatch.context() as patched:
        patched.setattr(campaign_room.subprocess, "Popen", start)
        (campaign._place / "runs.noted").touch()
        return campaign.run("runs")


def test_a_door_that_does_not_answer_what_is_good_or_does_not_open_ends_the_campaign_of_it(campaign, monkeypatch):
    refused = json.dumps({"good": "a.png", "kind": "refused", "words": "No such option", "faults": []})
    with pytest.raises(RuntimeError, match=r"runs does not answer a.png: refused, No such option"):
        says(campaign, monkeypatch, [refused])
    with pytest.raises(RuntimeError, match="runs cannot be opened"):
        says(campaign, monkeypatch, [], "sys.exit(1)")


@pytest.mark.parametrize("then", ["sys.exit(3)", "time.sleep(60)"])
def test_what_a_process_did_before_it_died_or_hung_is_counted(campaign, monkeypatch, then):
    monkeypatch.setattr(campaign_room, "WAIT", 1)
    made = "open('ran', 'w').close(); open('../runs.noted', 'w').write('os.system true'); "
    tally = says(campaign, monkeypatch, [READY], made + then)
    assert tally.escapes == 1
    assert "changes work/ran; os.system true" in tally.said[0]
    assert (tally.kinds[CRASHED], tally.hangs) == ((0, 1) if "sleep" in then else (1, 0))


def test_what_is_done_after_the_last_input_is_counted(campaign, monkeypatch):
    row = {"number": 0, "seconds": 0, "peak": 1.0, "kind": "refused", "words": "x", "faults": []}
    late = "time.sleep(0.5); open('../canary/secret.txt').read(); print('Traceback (most', file=sys.stderr)"
    tally = says(campaign, monkeypatch, [READY, json.dumps(row)], late)
    assert {words.partition(": ")[2] for words in tally.said} == {
        "canary secret.txt opened", "canary secret.txt read", "1 tracebacks in runs.err",
    }  # fmt: skip


def test_an_answer_that_does_not_come_in_time_counts_as_a_hang(campaign):
    tally = Tally("grpc")
    row = {"number": 0, "name": "a", "seconds": 0, "peak": 0, "faults": []}
    campaign._count(tally, Door("", {}, ()), row | {"kind": HUNG, "words": "no answer"})
    assert (tally.hangs, tally.said) == (1, ["grpc, a: hangs: no answer"])


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (b"", "the connection ends without an answer"),
        (b"HTTP/1.1 400 x\r\nContent-Length: 4\r\n\r\nnone", "the body is not JSON"),
        (b'HTTP/1.1 400 x\r\nContent-Length: 6\r\n\r\n"\xc2\x9bm"', "json file holds '\\x9b'"),
        (b"HTTP/1.1 500 x\r\nContent-Length: 2\r\n\r\n{}", "status 500: b'{}'"),
        (b"HTTP/1.1 400 x\r\nContent-Length: 2\r\n\r\n{}", None),
    ],
)
def test_an_answer_over_http_is_looked_at(answer, fault):
    assert servers._of_http(answer).faults == [fault] * bool(fault)


def test_json_that_is_written_is_looked_at_as_it_is(tmp_path):
    (tmp_path / "a.json").write_text('{\n "a": "\x9b"}')
    (tmp_path / "b.json").write_text('{\n "a": "\\u009b"}')
    (tmp_path / "c.json").write_text("{")
    answer = written(SimpleNamespace(faults=[]), tmp_path)
    assert [fault.partition(":")[0] for fault in answer.faults] == ["a.json", "c.json"]


@pytest.mark.parametrize("collection", [BISQUE, BACH])
def test_the_zips_hold_all_that_a_preparation_looks_for(tmp_path, collection):
    names, beside = {name: rest for name, *rest in own_sets.expected()}[collection.name]
    (tmp_path / "a.zip").write_bytes(zipped(dict.fromkeys(names, b"x") | beside))
    with find_images(collection, tmp_path / "a.zip") as found:
        assert len(found) == len(collection.records)
    (tmp_path / "b.zip").write_bytes(dict(archives(names, "/canary", beside))["one bomb for all"])
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        assert set(archive.namelist()) == {*names, *beside}
        assert all(archive.read(name) == data for name, data in beside.items())


def test_a_folder_of_another_campaign_is_refused(tmp_path, capsys):
    (tmp_path / "inputs").mkdir()
    with pytest.raises(SystemExit):
        main(["--keep", str(tmp_path)])
    assert "name a new folder" in capsys.readouterr().err
    assert all(door.warm for door in DOORS.values())
