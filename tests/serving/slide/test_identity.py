from types import SimpleNamespace

import numpy as np
import pytest

from bach_keras.serving.slide.identity import digest_of
from datasets.slides.slide import Level


def slide(path, *levels):
    return SimpleNamespace(path=path, levels=[Level(width, height, 1.0) for width, height in levels or [(9, 8)]])


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.mrxs"
    path.write_bytes(np.random.default_rng(0).bytes(10**6))
    return path


def test_a_slide_has_the_same_digest_wherever_it_lies(file, tmp_path):
    before = digest_of(slide(file))
    assert digest_of(slide(file.rename(tmp_path / "b.mrxs"))) == before


@pytest.mark.parametrize("change", ["cut", "longer", "first byte", "last byte", "levels"])
def test_another_slide_has_another_digest(change, file):
    before, content = digest_of(slide(file)), file.read_bytes()
    changed = {
        "cut": content[:-1],
        "longer": content + b"\0",
        "first byte": b"\0" + content[1:],
        "last byte": content[:-1] + b"\0",
        "levels": content,
    }[change]
    file.write_bytes(changed)
    assert digest_of(slide(file, (9, 7)) if change == "levels" else slide(file)) != before


def test_a_slide_in_a_folder_has_the_names_and_sizes_of_its_files_in_its_digest(file):
    before, folder = digest_of(slide(file)), file.with_suffix("")
    folder.mkdir()
    (folder / "Data0001.dat").write_bytes(b"abc")
    after = digest_of(slide(file))
    (folder / "Data0001.dat").write_bytes(b"abcd")
    assert len({before, after, digest_of(slide(file))}) == 3


def test_what_lies_beside_a_slide_of_one_file_is_not_its(file, tmp_path):
    path = file.rename(tmp_path / "a.tif")
    before = digest_of(slide(path))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "tiles.csv").write_text("an output")
    assert digest_of(slide(path)) == before


@pytest.mark.parametrize("suffix", [".vms", ".VMU"])
def test_a_slide_that_names_the_files_of_its_pixels_has_their_names_and_sizes_in_its_digest(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_text("[Virtual Microscope Specimen]\r\nNoLayers=1\r\nImageFile=a.jpg\r\nMapFile=gone.jpg\r\nX=../b\r\n")
    (tmp_path / "a.jpg").write_bytes(b"abc")
    before = digest_of(slide(path))
    (tmp_path / "another.jpg").write_bytes(b"abc")
    assert digest_of(slide(path)) == before
    (tmp_path / "a.jpg").write_bytes(b"abcd")
    assert digest_of(slide(path)) != before
