"""monitor: images like those of training pass, others are found, and only what bulk finished counts."""

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

from bach_keras.serving.monitor import answers as reading
from bach_keras.serving.monitor.monitor import monitor
from bach_keras.serving.monitor.report import as_table
from cli import cli
from datasets.errors import UserError
from tests.serving.monitor.conftest import CARD, measured, write_answers, write_export


def finding(result, name):
    return next(each for each in result["findings"] if each["name"] == name)


def kind_of(count=120, **changes):
    return measured(np.random.default_rng(7), count, **changes)


def test_images_of_the_training_images_kind_do_not_differ(alike, model):
    result = monitor(alike, model)
    assert (result["images"], result["errors"], result["drift"]) == (147, 3, [])
    blur, any_warning = finding(result, "blur"), finding(result, "any warning")
    assert blur["ci95"][0] < blur["known"] < blur["ci95"][1]
    assert any_warning["ci95"][0] < CARD["ranges"]["false_alarms"] < any_warning["ci95"][1]
    assert result["warnings"][0].startswith("WARNING: this model learned from synthetic phantom images.")


@pytest.mark.parametrize(
    ("changes", "name"), [({"shift": 0.1}, "stain"), ({"blur": 0.03}, "blur"), ({"blur": -0.03}, "blur")]
)
def test_another_stain_or_blur_is_found_and_named(model, tmp_path, changes, name):
    result = monitor(write_answers(tmp_path / "answers", model, kind_of(**changes)), model)
    assert {name, f"warning: {name}"} <= set(result["drift"])
    assert "tissue" not in result["drift"]
    assert finding(result, name)["p_holm"] >= finding(result, name)["p"]


def test_a_few_images_get_intervals_and_no_p_value(model, tmp_path):
    result = monitor(write_answers(tmp_path / "answers", model, kind_of(29, shift=0.3)), model)
    assert result["drift"] is None
    assert all(each["p"] is None and each["ci95"] for each in result["findings"])
    assert "29 images are too few for p-values" in result["notes"][0]
    again = monitor(write_answers(tmp_path / "more", model, kind_of(30, shift=0.3)), model)
    assert "stain" in again["drift"]


def test_errors_alone_are_counted_and_nothing_is_compared(model, tmp_path):
    result = monitor(write_answers(tmp_path / "answers", model, [{}] * 40), model)
    assert (result["images"], result["errors"], result["findings"], result["drift"]) == (0, 40, [], None)
    assert "nothing is compared" in list(as_table(result))[-2]


def test_no_more_rows_are_in_memory_at_once_than_fit_and_the_result_is_the_same(alike, model, monkeypatch):
    whole = monitor(alike, model)
    monkeypatch.setattr(reading, "ROWS", 7)
    assert monitor(alike, model) == whole


def test_images_of_a_folder_count_as_alike_where_that_is_asked_for(model, tmp_path):
    names = [f"/images/patient {place % 6}/{place}.tif" for place in range(120)]
    folder = write_answers(tmp_path / "answers", model, kind_of(blur=0.03), names)
    alone, grouped = monitor(folder, model), monitor(folder, model, by_folder=True)
    assert (alone["effective_n"], alone["folders"]) == (120, None)
    assert (grouped["effective_n"], grouped["folders"]) == (6, 6)
    assert finding(grouped, "blur")["p"] > 100 * finding(alone, "blur")["p"]
    assert any("--group-by folder" in note for note in alone["notes"])
    assert not any("--group-by folder" in note for note in grouped["notes"])
    assert any("6 folders with an effective n of 6.0" in note for note in grouped["notes"])


def test_answers_of_before_can_take_the_place_of_the_training_images(alike, model, tmp_path):
    other = write_answers(tmp_path / "answers", model, kind_of(shift=0.1))
    copy = shutil.copytree(other, tmp_path / "copy")
    assert monitor(copy, model, baseline=other)["drift"] == []
    result = monitor(other, model, baseline=alike)
    assert "stain" in result["drift"]
    assert finding(result, "confidence")["p"] > 0.001
    with pytest.raises(UserError, match="the same folder"):
        monitor(other, model, baseline=other)


def test_answers_with_other_settings_are_not_compared(alike, model, tmp_path):
    other = write_answers(tmp_path / "answers", model, kind_of(40), routing="routed")
    with pytest.raises(UserError, match=r"answered with routing routed, and .* with soft"):
        monitor(other, model, baseline=alike)


def test_a_card_of_an_earlier_version_compares_warnings_alone(tmp_path):
    ranges = {name: value for name, value in CARD["ranges"].items() if name != "percentiles"}
    older = write_export(tmp_path / "1", ranges=ranges)
    result = monitor(write_answers(tmp_path / "answers", older, kind_of(shift=0.1)), older)
    assert finding(result, "stain")["p"] is None
    assert "warning: stain" in result["drift"]
    assert any("of an earlier version" in note for note in result["notes"])


def test_a_model_without_ranges_or_calibration_says_the_little_that_there_is(tmp_path):
    bare = write_export(tmp_path / "1", without=("ranges", "calibration"))
    result = monitor(write_answers(tmp_path / "answers", bare, [None] * 40), bare)
    assert [each["name"] for each in result["findings"]] == ["confidence", "unsure", "class mix"]
    assert "40 images: nothing could be compared" in list(as_table(result))[-1]


def test_files_that_the_manifest_does_not_name_do_not_count(alike, model, tmp_path):
    folder = shutil.copytree(alike, tmp_path / "answers")
    shutil.copy(folder / "part-00000.parquet", folder / "part-00009.parquet")
    result = monitor(folder, model)
    assert result["images"] == 147
    assert "1 file that the manifest does not name, such as part-00009.parquet" in result["notes"][0]


@pytest.mark.parametrize("damage", ["removed", "half-written", "another"])
def test_a_file_that_is_not_what_the_manifest_says_is_left_out_and_named(alike, model, tmp_path, damage):
    folder = shutil.copytree(alike, tmp_path / "answers")
    part = folder / "part-00001.parquet"
    if damage == "removed":
        part.unlink()
    elif damage == "half-written":
        part.write_bytes(part.read_bytes()[:-100])
    else:
        shutil.copy(folder / "part-00000.parquet", part)
    result = monitor(folder, model)
    assert result["images"] + result["errors"] == 150 - 64
    assert [str(part) in sentence for sentence in result["damaged"]] == [True]
    ended = CliRunner().invoke(cli, ["monitor", str(folder), "--model", str(model)])
    assert ended.exit_code == 1
    assert str(part) in ended.stdout


def test_answers_of_another_model_are_refused(alike, tmp_path):
    other = write_export(tmp_path / "1", image_size=128)
    with pytest.raises(UserError, match="holds answers of another model"):
        monitor(alike, other)


def test_answers_of_several_models_are_refused(alike, model, tmp_path):
    folder = shutil.copytree(alike, tmp_path / "answers")
    manifest = json.loads((folder / "manifest.json").read_text())
    other = write_export(tmp_path / "1", image_size=128)
    elsewhere = write_answers(tmp_path / "other", other, kind_of(20))
    shutil.copy(elsewhere / "part-00000.parquet", folder / "part-00003.parquet")
    foreign = json.loads((elsewhere / "manifest.json").read_text())["shards"][0] | {"name": "part-00003.parquet"}
    (folder / "manifest.json").write_text(json.dumps(manifest | {"shards": [*manifest["shards"], foreign]}))
    with pytest.raises(UserError, match="answers of several models"):
        monitor(folder, model)


@pytest.mark.parametrize("there", [None, "empty", "no.json"])
def test_a_folder_that_bulk_did_not_write_is_refused(model, tmp_path, there):
    folder = tmp_path / "a folder"
    if there:
        folder.mkdir()
    if there == "no.json":
        (folder / "manifest.json").write_text("{")
    ended = CliRunner().invoke(cli, ["monitor", str(folder), "--model", str(model)])
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert str(folder) in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_scheduler_can_be_told_by_the_exit_code(alike, model, tmp_path):
    other = write_answers(tmp_path / "answers", model, kind_of(shift=0.1))
    codes = [
        CliRunner().invoke(cli, ["monitor", str(folder), "--model", str(model), *more]).exit_code
        for folder in (alike, other)
        for more in ([], ["--fail-on-drift"])
    ]
    assert codes == [0, 0, 0, 1]


def test_the_page_and_the_json_say_what_the_table_says(alike, model, tmp_path):
    arguments = ["monitor", str(alike), "--model", str(model), "--format", "json"]
    ended = CliRunner().invoke(cli, [*arguments, "--out", str(tmp_path / "page.html")])
    assert ended.exit_code == 0
    result = json.loads(ended.stdout)
    assert result == json.loads(json.dumps(monitor(alike, model)))
    page = (tmp_path / "page.html").read_text()
    for said in ("synthetic phantom images", "distance of stain, median", "class mix: insitu", "<svg"):
        assert said in page
    assert CliRunner().invoke(cli, [*arguments, "--out", str(tmp_path / "a.json")]).exit_code == 0
    assert json.loads((tmp_path / "a.json").read_text()) == result
    assert CliRunner().invoke(cli, [*arguments, "--out", str(tmp_path / "a.txt")]).exit_code == 2
