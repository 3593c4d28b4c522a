import json
import os
from pathlib import Path

import pytest
import tensorflow as tf

from bach_keras.network import half_precision
from bach_keras.network.half_precision import Probe, probe


@pytest.fixture
def quick(monkeypatch):
    """Every measurement gives this, and runs nothing."""
    monkeypatch.setattr(half_precision, "_milliseconds", lambda run: 2.5)
    return 2.5


def test_a_machine_is_measured_once(tmp_path, monkeypatch):
    kept = tmp_path / "cache" / "half.json"
    first = probe(kept)
    assert first.float32 > 0
    monkeypatch.setattr(half_precision, "_milliseconds", lambda run: pytest.fail("measured again"))
    assert probe(kept) == first


@pytest.mark.parametrize(
    "content", ["", "[]", '{"MACHINE": 3}', '{"MACHINE": {"float32": -1, "bfloat16": 2, "float16": 1}}', '{"a": {}}']
)
def test_a_damaged_file_is_measured_again_and_replaced(tmp_path, quick, content):
    kept = tmp_path / "half.json"
    kept.write_text(content.replace("MACHINE", half_precision._machine()))
    found = probe(kept)
    assert json.loads(kept.read_text())[half_precision._machine()]["float32"] == found.float32 == quick


def test_another_machines_figures_are_kept(tmp_path, quick):
    kept, other = tmp_path / "half.json", {"float32": 3.0, "bfloat16": None, "float16": None}
    kept.write_text(json.dumps({"another": other}))
    probe(kept)
    assert json.loads(kept.read_text())["another"] == other


def test_a_cache_that_cannot_be_written_does_not_stop_it(tmp_path, quick, caplog):
    (tmp_path / "file").write_text("")
    assert probe(tmp_path / "file" / "half.json").float32 == quick
    assert "cannot be written" in caplog.text


def test_it_is_kept_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert half_precision._default_cache() == tmp_path / "bach_keras" / "half_precision.json"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert half_precision._default_cache() == Path(os.path.expanduser("~/.cache/bach_keras/half_precision.json"))


def test_another_build_of_tensorflow_is_another_machine(monkeypatch):
    before = half_precision._machine()
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1" if os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "0" else "0")
    assert half_precision._machine() != before
    assert tf.__version__ in before


@pytest.mark.parametrize(
    ("bfloat16", "best"), [(None, "float32"), (10.0, "float32"), (8.1, "float32"), (8, "bfloat16")]
)
def test_bfloat16_is_taken_where_it_is_faster_by_a_fifth(bfloat16, best):
    found = Probe("A chip", 10.0, bfloat16, None)
    assert found.best == best
    assert f"{best} is taken" in str(found)


def test_a_type_that_is_slower_or_not_there_is_warned_of():
    found = Probe("A chip", 10.0, 5.0, 40.0)
    assert found.warning("bfloat16") == ""
    assert "float16 40.0 ms" not in found.warning("bfloat16")
    assert "in float16, which is slow on A chip (convolutions 40.0 ms, in float32 10.0 ms)" in found.warning("float16")
    assert "not at all" in Probe("A chip", 10.0, None, None).warning("bfloat16")
