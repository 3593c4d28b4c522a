"""The whole of it: no check ends the others, and what TensorFlow does to its process ends none."""

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from bach_keras.doctor import child, examine
from bach_keras.doctor.finding import FAIL, PASS, WARN, Asked, Finding
from cli import cli


def test_a_check_that_fails_itself_is_a_fail_with_the_reason():
    def odd(asked):
        raise LookupError("no such\nthing")

    [found] = examine.guarded(odd, Asked())
    assert found.status == FAIL
    assert found.name == "test_examine.odd"
    assert found.value == "the check itself failed: LookupError: no such thing"


@pytest.mark.parametrize(("statuses", "code"), [((PASS,), 0), ((PASS, WARN), 1), ((WARN, FAIL, PASS), 2)])
def test_the_exit_code_is_that_of_the_worst(monkeypatch, statuses, code):
    findings = [Finding(f"n{number}", status, "v", "do" * (status != PASS)) for number, status in enumerate(statuses)]
    monkeypatch.setattr(examine, "examine", lambda asked: iter(findings))
    result = CliRunner().invoke(cli, ["doctor"])
    assert result.exit_code == code
    lines = result.stdout.splitlines()
    assert lines[0] == f"{statuses[0]}  n0: v"
    assert lines.count("      fix: do") == sum(status != PASS for status in statuses)
    assert lines[-1].startswith(f"{len(statuses)} checks in 0 s: ")
    result = CliRunner().invoke(cli, ["doctor", "--json"])
    said = json.loads(result.stdout)
    assert [check["status"] for check in said["checks"]] == list(statuses)
    assert said["checks"][0] == {"name": "n0", "status": statuses[0], "value": "v", "fix": findings[0].fix}
    assert said["summary"]["exit_code"] == result.exit_code == code


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Return a function: code -> TensorFlow, for the process that tries it, does this when it is imported."""

    def write(code):
        (tmp_path / "tensorflow.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import os; os.write(2, b'core dumped'); os.abort()", "the process was ended by SIGABRT: core dumped"),
        ("raise SystemExit(3)", "the process ended with 3"),
        ("import time; time.sleep(60)", "it did not end within 1 s"),
        ("raise ImportError('libfoo.so: cannot open')", "ImportError: libfoo.so: cannot open"),
    ],
)
def test_however_tensorflow_ends_its_process_the_reason_is_said(stand_in, monkeypatch, code, reason):
    stand_in(code)
    monkeypatch.setattr(child, "PATIENCE", 1.0 if "sleep" in code else 60.0)
    with child.inside({}, None) as found:
        assert found.step("start") == (None, reason)


def test_the_process_does_not_outlast_who_asked(stand_in):
    stand_in("import time; time.sleep(60)")
    with child.inside({}, None) as found:
        process = found._process
        assert process.poll() is None
    assert process.poll() is not None


def test_it_works_where_tensorflow_and_h5py_cannot_be_imported_and_there_is_no_home(stand_in, tmp_path):
    folder = stand_in("raise ImportError('libfoo.so: cannot open')")
    (folder / "h5py.py").write_text("raise ImportError('half of it is missing')")
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "USERPROFILE")}
    answer = subprocess.run(
        [sys.executable, "cli.py", "doctor", "--json", "--data-dir", str(tmp_path / "none"), "--model", "nowhere"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    checks = {check["name"]: check for check in json.loads(answer.stdout)["checks"]}
    assert answer.returncode == 2
    assert "Traceback" not in answer.stderr
    assert "libfoo.so" in checks["TensorFlow"]["value"]
    assert checks["export"]["status"] == checks["Keras"]["status"] == FAIL
    assert checks["disk data"]["status"] == PASS
    assert all(check["fix"] for check in checks.values() if check["status"] != PASS)
