from dataclasses import dataclass, field

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from PIL import Image

from bach_keras.commands.options import ImagesAsked
from bach_keras.evidence import pairs
from cli import cli
from datasets import phantom
from datasets.audit import Pair, orient
from datasets.errors import UserError, WorkError
from tests.full_disk import fill_the_disk

TISSUE = phantom.draw("insitu", 402, 0)


@dataclass
class Pictures:
    """Stands in for SplitData."""

    pictures: dict
    files: dict
    config: str = "phantom"
    protocol: str = "paper"
    asked: list = field(default_factory=list)

    def images(self, filenames):
        self.asked.append(sorted(filenames))
        chosen = {name: self.pictures[name] for name in filenames}
        return tf.data.Dataset.from_tensor_slices(
            {"image": np.stack(list(chosen.values())), "filename": [name.encode() for name in chosen]}
        )


@pytest.fixture
def leaking():
    mirrored, other = np.ascontiguousarray(TISSUE[:, ::-1]), phantom.draw("benign", 401, 0)
    return Pictures(
        {"a.png": TISSUE, "b.png": mirrored, "c.png": other}, {"train": ["a.png"], "validation": ["b.png", "c.png"]}
    )


@pytest.mark.parametrize(("validation", "exit_code"), [("b.png", 1), ("c.png", 0)])
def test_the_exit_code_of_the_command_says_whether_there_are_pairs(
    leaking, monkeypatch, tmp_path, validation, exit_code
):
    leaking.files = {"train": ["a.png"], "validation": [validation]}
    monkeypatch.setattr(ImagesAsked, "open", lambda asked: leaking)
    result = CliRunner().invoke(cli, ["data", "audit", "--config", "phantom", "--out", str(tmp_path)])
    assert result.exit_code == exit_code
    named = "a.png (train) and b.png (validation), mirrored: correlation 1.000, 100% in common"
    assert (named in result.output) == bool(exit_code)


def test_a_leak_is_listed_and_drawn(leaking, tmp_path):
    (pair,) = pairs.audit(leaking, tmp_path / "audit")
    assert (pair.first, pair.second) == ("a.png", "b.png")
    assert sorted(path.name for path in (tmp_path / "audit").iterdir()) == ["pair-001.png", "pairs.csv"]
    assert leaking.asked == [["a.png", "b.png", "c.png"], ["a.png", "b.png"]]


def test_an_earlier_audit_is_replaced(leaking, tmp_path):
    pairs.audit(leaking, tmp_path)
    leaking.files = {"train": ["a.png"], "validation": ["c.png"]}
    assert pairs.audit(leaking, tmp_path) == []
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.csv"]
    assert len((tmp_path / "pairs.csv").read_text().splitlines()) == 1


def test_a_split_of_one_part_is_refused_before_any_image_is_read(leaking, tmp_path):
    leaking.files, leaking.protocol = {"train": ["a.png", "b.png"], "validation": [], "test": []}, "all"
    with pytest.raises(UserError, match="Protocol all puts every image of phantom in one split"):
        pairs.audit(leaking, tmp_path / "audit")
    assert leaking.asked == []
    assert not (tmp_path / "audit").exists()


def test_a_full_disk_is_reported_with_the_path_and_an_earlier_audit_stays(leaking, tmp_path):
    pairs.audit(leaking, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    fill_the_disk(tmp_path / "pair-001.png")
    with pytest.raises(WorkError, match=r"pair-001\.png cannot be written: No space left on device\.$"):
        pairs.audit(leaking, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("orientation", ["as it is", "turned 270", "turned 180 and mirrored"])
def test_the_frames_hold_the_same_tissue(orientation, tmp_path):
    wide = np.asarray(Image.fromarray(TISSUE).resize((768, 576)))
    first, second = wide[:440, :590], wide[-440:, -590:]
    undone = {"turned 270": "turned 90"}.get(orientation, orientation)
    stored = np.ascontiguousarray(orient(second, undone))
    pair = Pair("a.png", "train", "b.png", "test", 0.9, orientation, 178, 136, 0.48)
    pairs.draw_pairs(tmp_path, [pair], [("a.png", first), ("b.png", stored)])
    drawn = np.asarray(Image.open(tmp_path / "pair-001.png").convert("RGB"), np.int16)
    frame = np.all(drawn == (0, 0xC0, 0), axis=2)
    columns = np.flatnonzero(frame.sum(axis=0) > 100)  # those of the frames' upright lines, 3 pixels each
    insides = []
    for left, right in ((columns[2], columns[3]), (columns[8], columns[9])):
        rows = np.flatnonzero(frame[:, left + 1])
        inner = np.flatnonzero(np.diff(rows) > 1)[0]
        insides.append(drawn[rows[inner] + 1 : rows[inner + 1], left + 1 : right])
    assert insides[0].shape == insides[1].shape
    assert min(insides[0].shape[:2]) > 200
    # Half a pixel of rounding lies between the two, no more.
    assert np.corrcoef(insides[0].ravel(), insides[1].ravel())[0, 1] > 0.95
