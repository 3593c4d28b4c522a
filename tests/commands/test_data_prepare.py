"""The commands data prepare, info and verify, and where they and others look for data."""

import dataclasses
import errno
import io
import json
import shutil
import sys

import pytest
from click.testing import CliRunner

from cli import cli
from datasets.bach_bisque.prepare import prepare_dataset
from datasets.bach_bisque.verified import last_verification
from datasets.catalogue import BACH, CONFIGS, PHANTOM
from tests.datasets.own.own_images import folders


def run(*words):
    return CliRunner().invoke(cli, ["data", *map(str, words)])


@pytest.fixture(autouse=True)
def few_phantoms(monkeypatch):
    few = dataclasses.replace(PHANTOM, records=PHANTOM.records[:4])
    monkeypatch.setitem(CONFIGS, "phantom", (few,))


@pytest.mark.parametrize("command", ["prepare", "info", "verify"])
def test_every_command_has_an_example(command):
    assert f"python cli.py data {command}" in run(command, "--help").output


def test_a_config_is_built_described_and_verified(tmp_path):
    words = ("--config", "phantom", "--data-dir", tmp_path)
    folder = tmp_path / "bach_bisque" / "phantom" / "1.2.0"
    summary = "phantom: 4 images: 4 normal; 1 patients\n"
    assert run("prepare", *words).stdout == f"phantom: built in {folder}\n{summary}"
    assert run("prepare", *words).stdout == f"phantom: already prepared in {folder}\n{summary}"
    assert run("prepare", *words, "--overwrite").stdout == f"phantom: built in {folder}\n{summary}"
    assert run("info", *words).stdout == f"{summary}  4 of phantom; version 1.2.0 in {folder}\n"
    result = run("verify", *words)
    assert (result.exit_code, result.stdout) == (0, "phantom: all 4 images are as they were prepared\n")
    assert last_verification(folder).changed == ()


def test_an_older_set_is_named_and_brought_up_to_date(tmp_path):
    words = ("--config", "phantom", "--data-dir", tmp_path)
    run("prepare", *words)
    new = tmp_path / "bach_bisque" / "phantom" / "1.2.0"
    old = new.rename(new.with_name("1.1.1"))
    info = old / "dataset_info.json"
    info.write_text(info.read_text().replace('"version": "1.2.0"', '"version": "1.1.1"'))
    older = f"version 1.1.1 in {old}; `data prepare --config phantom` brings it up to date"
    assert older in run("info", *words).stdout
    result = run("prepare", *words)
    assert result.stdout.startswith(f"phantom: brought up to date from version 1.1.1 in {new}\n")
    assert f"{old} is of an earlier version and no longer read" in result.stderr
    assert "up to date" not in run("info", *words).stdout


def test_info_says_how_many_patients_of_bach_are_known(tmp_path):
    folder = tmp_path / "bach_bisque" / "bach" / "1.2.0"
    folder.mkdir(parents=True)
    rows = [dataclasses.asdict(record) | {"sha256": "0"} for record in BACH.records]
    (folder / "metadata.json").write_text(json.dumps({"train": rows}))
    (folder / "dataset_info.json").write_text("{}")
    first = run("info", "--config", "bach", "--data-dir", tmp_path).stdout.splitlines()[0]
    assert first.endswith("100 invasive; 29 patients known, 255 images unknown")


def test_info_says_how_many_copies_were_found_in_an_own_set(tmp_path):
    source = folders(tmp_path / "images", count=2)
    run("prepare", "--config", "own", "--name", "a", "--source", source, "--data-dir", tmp_path)
    words = ("--config", "own-a", "--data-dir", tmp_path)
    assert "copies that were found" not in run("info", *words).stdout
    facts = next((tmp_path / "bach_bisque" / "own-a").glob("*/own.json"))
    said = json.loads(facts.read_text()) | {"copies": [["x", "y"]], "near_copies": [{}, {}], "near_copies_found": 12}
    facts.write_text(json.dumps(said))
    found = "1 picture under several names, 12 pairs of the same tissue"
    line = f"  copies that were found when it was prepared: {found}; see {facts}"
    assert run("info", *words).stdout.splitlines()[-1] == line
    facts.write_text(json.dumps({"copies": None, "copies_elsewhere": [["x", "y"]], "near_copies": [{}]}))
    assert "prepared: 1 image of another set too, 1 pair of the same tissue; see" in run("info", *words).stdout
    facts.write_text("[]")
    assert "copies that were found" not in run("info", *words).stdout


def test_info_says_of_every_config_what_is_there(tmp_path):
    run("prepare", "--config", "phantom", "--data-dir", tmp_path)
    result = run("info", "--data-dir", tmp_path)
    folder = tmp_path / "bach_bisque" / "phantom" / "1.2.0"
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "bach: not prepared",
        "bisque: not prepared",
        "bach_bisque: not prepared",
        "phantom: 4 images: 4 normal; 1 patients",
        f"  4 of phantom; version 1.2.0 in {folder}",
    ]
    (folder / "metadata.json").write_text("{}")
    result = run("info", "--data-dir", tmp_path)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1].startswith("phantom: What is prepared in ")
    assert "damaged" in result.stdout
    assert run("info", "--config", "phantom", "--data-dir", tmp_path).exit_code == 2


def test_verify_ends_with_1_and_says_how_to_mend_it(tmp_path):
    words = ("--config", "phantom", "--data-dir", tmp_path)
    run("prepare", *words)
    [path] = tmp_path.rglob("*.tfrecord*")
    content = bytearray(path.read_bytes())
    content[len(content) // 10] ^= 1
    path.write_bytes(content)
    result = run("verify", *words)
    assert last_verification(path.parent) is None
    assert result.exit_code == 1
    assert "its pixels are not those that were prepared" in result.stdout
    assert result.stdout.endswith("run 'data prepare --config phantom --overwrite'\n")


def test_verify_starts_nothing_on_what_is_not_prepared(tmp_path):
    result = run("verify", "--config", "phantom", "--data-dir", tmp_path)
    assert result.exit_code == 2
    assert "phantom is not prepared in" in result.output


def test_bach_without_its_archive_names_both_ways_to_it(tmp_path):
    result = run("prepare", "--config", "bach", "--data-dir", tmp_path / "data")
    assert result.exit_code == 2
    assert "give --source DIR_OR_ZIP, or --download to fetch ICIAR2018_BACH_Challenge.zip (10.4 GB)" in result.output
    assert not (tmp_path / "data").exists()


def test_a_source_that_does_not_exist_starts_nothing(tmp_path):
    result = run("prepare", "--config", "bach", "--source", tmp_path / "nowhere", "--data-dir", tmp_path)
    assert result.exit_code == 2
    assert "nowhere, which does not exist" in result.output


READERS = {
    "train": ["train", "--node", "carci", "--init", "none"],
    "lr-find": ["lr-find", "--node", "carci", "--init", "none"],
    "evaluate": ["evaluate", "--out", "out"],
    "reproduce": ["reproduce"],
    "data verify": ["data", "verify"],
    "data info": ["data", "info"],
    "data show": ["data", "show", "--out", "a.png"],
    "data audit": ["data", "audit", "--out", "out"],
}


@pytest.mark.parametrize("words", READERS.values(), ids=READERS)
def test_a_data_folder_that_is_mistyped_is_an_error_and_is_not_made(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    for name, wrong in (("typo", "does not exist"), ("file", "is not a folder")):
        result = CliRunner().invoke(cli, [*words, "--data-dir", name])
        assert result.exit_code == 2
        assert f"--data-dir {name} {wrong}: check the name, or make it with `data prepare" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_disk_that_becomes_full_ends_with_1_and_leaves_nothing(tmp_path, monkeypatch):
    from datasets.bach_bisque.bach_bisque_dataset_builder import Builder

    def fail(*given, **named):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Builder, "download_and_prepare", fail)
    result = run("prepare", "--config", "phantom", "--data-dir", tmp_path)
    assert result.exit_code == 1
    assert "phantom/1.2.0 cannot be written: No space left on device. Nothing was changed" in result.stderr
    assert [path.name for path in (tmp_path / "bach_bisque" / "phantom").iterdir()] == [".prepare.lock"]


def test_a_disk_that_is_too_small_starts_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10, 9, 1_000))
    result = run("prepare", "--config", "phantom", "--data-dir", tmp_path / "data")
    assert result.exit_code == 2
    assert "GB free: make room" in result.stderr
    assert not (tmp_path / "data").exists()


def test_no_bar_is_drawn_where_stderr_is_not_a_terminal(tmp_path):
    words = ("--config", "phantom", "--data-dir", tmp_path)
    assert run("prepare", *words).stderr == ""
    assert run("verify", *words).stderr == ""


def test_one_bar_is_drawn_over_the_images_on_a_terminal(tmp_path, monkeypatch):
    stderr = io.StringIO()
    stderr.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", stderr)
    prepare_dataset("phantom", data_dir=tmp_path)
    assert "Preparing train:" in stderr.getvalue()
    assert "Generating" not in stderr.getvalue()


def test_data_prepare_makes_its_data_folder(tmp_path):
    assert run("prepare", "--config", "phantom", "--data-dir", tmp_path / "new" / "folder").exit_code == 0
    assert run("info", "--config", "phantom", "--data-dir", tmp_path / "new" / "folder").exit_code == 0


def test_falling_back_to_phantoms_is_said_loudly_on_stderr(tmp_path):
    run("prepare", "--config", "phantom", "--data-dir", tmp_path)
    result = run("verify", "--data-dir", tmp_path)
    assert result.exit_code == 0
    assert result.stderr.startswith(
        f"WARNING: no --config was given and bach is not prepared in {tmp_path}, so this uses phantom: SYNTHETIC"
    )
    assert "WARNING" not in run("verify", "--config", "phantom", "--data-dir", tmp_path).stderr


@pytest.mark.parametrize("option", ["--split-seed", "--seed"])
def test_the_seed_of_a_split_is_named_as_everywhere_and_by_its_old_name(option):
    result = run("splits", "--config", "bisque", "--protocol", "paper", option, "3")
    assert result.stdout.startswith("bisque, paper, seed 3: ")


def test_own_images_are_prepared_described_and_verified(tmp_path):
    source = folders(tmp_path / "images", count=3)
    where = ["--data-dir", str(tmp_path / "data")]
    named = ["prepare", "--config", "own", "--name", "a", "--source", str(source), *where]
    built = run(*named)
    assert built.exit_code == 0, built.output
    assert "own-a: built in" in built.stdout
    assert "own-a: 6 images: 3 benign, 3 normal; 0 patients known, 6 images unknown" in built.stdout
    assert "own-a: already prepared in" in run(*named).stdout
    assert "own-images: built in" in run("prepare", "--config", "own", "--source", str(source), *where).stdout
    assert "own-a: 6 images" in run("info", *where).stdout
    assert "all 6 images are as they were prepared" in run("verify", "--config", "own-a", *where).stdout


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (["--config", "own"], "needs --source"),
        (["--config", "own", "--name", "a"], "needs --source"),
        (["--config", "own", "--source", "/"], "give one with --name"),
        (["--config", "own", "--source", "切片"], "give one with --name"),
        (["--config", "own", "--name", "A B", "--source", "."], "--name 'A B' cannot name a data set"),
        (["--config", "own", "--name", "a", "--source", "nowhere"], "nowhere does not exist"),
        (["--config", "own", "--name", "a", "--source", ".", "--download"], "--download fetches BACH"),
        (["--config", "bisque", "--name", "a"], "--name and --label are of --config own"),
    ],
)
def test_what_does_not_fit_own_images_is_refused(tmp_path, given, complaint):
    result = run("prepare", *given, "--data-dir", str(tmp_path))
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_config_of_an_own_set_is_not_what_prepares_it():
    result = run("prepare", "--config", "own-clinic", "--source", ".")
    assert result.exit_code == 2
    assert "your own set own-clinic is prepared with --config own --name clinic --source DIR." in result.stderr


def test_ctrl_c_in_a_preparation_says_what_is_kept(tmp_path, monkeypatch):
    def stop(image):
        raise KeyboardInterrupt

    monkeypatch.setattr("datasets.own.staging._encode", stop)
    source = folders(tmp_path / "images", count=3)
    result = run("prepare", "--config", "own", "--name", "a", "--source", str(source), "--data-dir", str(tmp_path))
    assert result.exit_code == 130
    assert "Interrupted: 0 of 6 images are encoded and kept: the same command resumes" in result.stderr
