"""The index of the training images: what is near, how near is near, and its file."""

import numpy as np
import pytest

from bach_keras.evidence.neighbours import Index, Known, leave_one_out
from datasets.digest import sha256_of
from datasets.errors import UserError

# On a line, at 0, 1, 3 and 7, of two patients and one who is unknown.
PLACES = np.array([[0, 0], [1, 0], [3, 0], [7, 0]], np.float32)
IMAGES = [Known("a.png", "normal", "p1", b"\xff\xd8a\0"), Known("b.png", "normal", "p1"),
          Known("c.png", "benign", "p2", b"\xff\xd8c"), Known("d.png", "invasive", "")]  # fmt: skip


@pytest.fixture
def index():
    return Index.of(IMAGES, PLACES)


def test_the_nearest_come_first_with_their_distances(index):
    ((first, second),) = index.nearest(np.array([[2.75, 0]], np.float32), 2)
    assert (first.known.name, first.known.label, first.distance) == ("c.png", "benign", 0.25)
    assert (second.known.name, second.distance) == ("b.png", 1.75)
    assert [len(found) for found in index.nearest(PLACES, 9)] == [4] * 4


def test_of_two_that_are_as_near_the_first_of_the_index_comes_first():
    ((first, second, _),) = Index.of(IMAGES[:3], PLACES[[0, 0, 3]]).nearest(PLACES[:1], 3)
    assert (first.known.name, second.known.name) == ("a.png", "b.png")


def test_an_images_own_distance_is_to_another_patients_image(index):
    # d, of whom nobody knows whose it is, may be of any patient: every other image counts.
    assert index.own.tolist() == [3, 2, 2, 4]
    assert leave_one_out(PLACES, ["", "", "", ""]).tolist() == [1, 1, 2, 4]
    assert leave_one_out(PLACES, ["p1"] * 4).tolist() == [1, 1, 2, 4]  # there is no other patient


@pytest.mark.parametrize(("distance", "percentile"), [(0, 0), (1.99, 0), (2, 50), (3.5, 75), (4, 100), (1e9, 100)])
def test_a_percentile_is_the_share_of_own_distances_that_are_no_larger(index, distance, percentile):
    assert index.percentile(distance) == percentile


def test_equal_features_are_no_distance_apart_however_large_they_are():
    large = np.random.default_rng(0).normal(1e4, 1, (9, 2048)).astype(np.float32)
    index = Index.of([Known(f"{number}.png", "normal", "") for number in range(9)], large)
    found = index.nearest(large, 1)
    assert [near[0].known.name for near in found] == [f"{number}.png" for number in range(9)]
    assert max(near[0].distance for near in found) < 0.05
    assert index.own.min() > 1


def test_it_is_read_back_as_it_was_written(index, tmp_path):
    read = Index.read(tmp_path / "i.npz", index.write(tmp_path / "i.npz"))
    assert read.images == index.images
    assert read.thumbnails == 2
    for name in ("features", "own"):
        np.testing.assert_array_equal(getattr(read, name), getattr(index, name))
        assert getattr(read, name).dtype == np.float32
    assert index.write(tmp_path / "again.npz") == index.write(tmp_path / "i.npz")


def test_names_in_any_alphabet_come_back(tmp_path):
    odd = [Known(name, "normal", "") for name in ("größe 組織.png", "<b>&\x1b[1m.png", "\ud83d.png", "")]
    index = Index.of(odd, PLACES)
    assert list(Index.read(tmp_path / "i.npz", index.write(tmp_path / "i.npz")).images) == odd


def test_any_other_file_is_refused_in_a_sentence(index, tmp_path):
    path = tmp_path / "i.npz"
    digest = index.write(path)
    foreign = Index.of(IMAGES[:3], PLACES[:3]).write(tmp_path / "foreign.npz")
    assert foreign != digest
    content = path.read_bytes()
    for changed in (content[:-1], content[:99] + b"\0" + content[100:], b"", (tmp_path / "foreign.npz").read_bytes()):
        path.write_bytes(changed)
        with pytest.raises(UserError, match="is not the index that was written with this export"):
            Index.read(path, digest)
    path.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        Index.read(path, digest)


@pytest.mark.parametrize("change", ["foreign", "compressed", "missing", "short", "wide", "text"])
def test_a_file_that_was_changed_together_with_its_digest_is_refused_in_a_sentence(index, tmp_path, change):
    path = tmp_path / "i.npz"
    index.write(path)
    with np.load(path) as held:
        arrays = dict(held)
    if change == "foreign":
        path.write_bytes(b"PK nothing")
    elif change == "compressed":
        np.savez_compressed(path, **arrays)
    else:
        changed = {
            "missing": {"own": None}, "short": {"features": arrays["features"][1:]},
            "wide": {"own": arrays["features"]}, "text": {"features": np.full(arrays["features"].shape, "a")},
        }[change]  # fmt: skip
        np.savez(path, **{name: each for name, each in (arrays | changed).items() if each is not None})
    with pytest.raises(UserError, match="is not an index that an export writes: export the runs again"):
        Index.read(path, sha256_of(path))


def test_what_cannot_be_compared_is_refused_in_a_sentence():
    with pytest.raises(UserError, match="at least 2 are needed"):
        Index.of(IMAGES[:1], PLACES[:1])
    with pytest.raises(UserError, match="NaN or infinite"):
        Index.of(IMAGES, np.where(PLACES == 7, np.nan, PLACES))
