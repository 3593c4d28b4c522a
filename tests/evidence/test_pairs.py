from dataclasses import dataclass, field
from unittest.mock import Mock

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from PIL import Image
from scipy import ndimage

from bach_keras.commands.options import ImagesAsked
from bach_keras.evidence import pairs
from benchmarks.audit_scores import Change, plant
from cli import cli
from datasets import phantom
from datasets.audit import Pair
from datasets.duplicates.copies import Sketchbook
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
    prepared: Mock = field(default_factory=Mock)

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
    monkeypatch.setattr(ImagesAsked, "split", lambda asked: leaking)
    result = CliRunner().invoke(cli, ["data", "audit", "--config", "phantom", "--out", str(tmp_path)])
    assert result.exit_code == exit_code
    named = "a.png (train) and b.png (validation), mirrored: correlation 1.000, 100% in common"
    assert (named in result.output) == bool(exit_code)


def test_a_leak_is_listed_and_drawn(leaking, tmp_path):
    (pair,) = pairs.audit(leaking, tmp_path / "audit")
    assert (pair.first, pair.second) == ("a.png", "b.png")
    assert sorted(path.name for path in (tmp_path / "audit").iterdir()) == ["pair-001.png", "pairs.csv"]
    assert leaking.asked == [["a.png", "b.png", "c.png"], ["a.png", "b.png"]]


def test_of_many_pairs_the_most_alike_are_printed_and_drawn_and_all_are_listed(monkeypatch, tmp_path):
    monkeypatch.setattr(pairs, "MOST_DRAWN", 2)
    turns = {f"{number}.png": np.ascontiguousarray(TISSUE[number:, ::-1]) for number in (0, 8, 16)}
    pictures = Pictures({"a.png": TISSUE, **{name: _padded(image) for name, image in turns.items()}},
                        {"train": ["a.png"], "validation": [*turns]})  # fmt: skip
    monkeypatch.setattr(ImagesAsked, "split", lambda asked: pictures)
    (tmp_path / "pair-003.png").write_bytes(b"of an earlier audit")
    result = CliRunner().invoke(cli, ["data", "audit", "--config", "phantom", "--out", str(tmp_path)])
    assert result.stdout.count("correlation") == 2
    assert f"and 1 more, less alike and not drawn, in {tmp_path / 'pairs.csv'}" in result.stdout
    assert "pairs across the split: 3; see" in result.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pair-001.png", "pair-002.png", "pairs.csv"]
    rows = [line.split(",") for line in (tmp_path / "pairs.csv").read_text().splitlines()]
    assert len(rows) == 1 + 3
    drawn = {name for row in rows[1:3] for name in (row[0], row[2])}
    assert pictures.asked[1:] == [sorted(drawn)]


def _padded(image):
    return np.pad(image, ((0, len(TISSUE) - len(image)), (0, 0), (0, 0)), "reflect")


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


@pytest.mark.parametrize(
    ("angle", "mirrored", "scale"), [(0, False, 1), (90, False, 1), (180, True, 1), (45, False, 1.7), (30, True, 1.35)]
)
def test_the_frames_hold_the_same_tissue(angle, mirrored, scale, tmp_path):
    wide = np.asarray(Image.fromarray(TISSUE).resize((768, 576)))
    first, second = plant(wide, Change(0.2, angle, scale, mirrored))
    with Sketchbook() as sketches:
        sketches.add("a.png", first)
        sketches.add("b.png", second)
        (copy,) = sketches.find_copies()
    pair = Pair.of(copy, {"a.png": "train", "b.png": "test"})
    pairs.draw_pairs(tmp_path, [pair], [("a.png", first), ("b.png", second)])
    drawn = np.asarray(Image.open(tmp_path / "pair-001.png").convert("RGB"), np.int16)
    insides = [_inside_of_frame(half) for half in _halves(drawn)]
    rows, columns = np.minimum(insides[0].shape[:2], insides[1].shape[:2])
    assert np.abs(np.subtract(insides[0].shape, insides[1].shape)).max() <= 2
    assert min(rows, columns) > 200
    one, other = (inside[:rows, :columns] for inside in insides)
    both = (one > -1) & (other > -1)
    # Half a pixel of rounding lies between the two, no more.
    assert np.corrcoef(one[both], other[both])[0, 1] > 0.9


def _halves(drawn):
    """Return the panels of a picture, which a gap without any frame parts."""
    columns = np.flatnonzero(_frame(drawn).any(axis=0))
    gap = np.diff(columns).argmax()
    return drawn[:, : columns[gap] + 1], drawn[:, columns[gap + 1] :]


def _frame(drawn):
    return np.all(drawn == (0, 0xC0, 0), axis=2)


def _inside_of_frame(drawn):
    """Return the box around a frame, with -1 on the frame and outside of it."""
    frame = _frame(drawn)
    rows, columns = (np.flatnonzero(frame.any(axis=axis)) for axis in (1, 0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    inside = ndimage.binary_fill_holes(frame[box]) & ~frame[box]
    return np.where(inside[..., None], drawn[box], -1)
