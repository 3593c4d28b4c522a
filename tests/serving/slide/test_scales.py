from types import SimpleNamespace

import pytest

from bach_keras.serving.slide.scales import Scales
from datasets.images.scale import Scale

OWN = Scale(0.5, "the file")


def scale(given, path, own=OWN):
    return Scales.given(given).of(SimpleNamespace(path=path, scale=own, absurd_scale=None))


def test_a_number_goes_before_what_the_file_says_and_its_source_says_so(tmp_path):
    assert scale("0.25", tmp_path / "a.svs") == Scale(0.25, "given by --um-per-pixel")
    assert scale(None, tmp_path / "a.svs") == OWN


def test_a_list_gives_each_slide_its_own(tmp_path):
    table = tmp_path / "sizes.csv"
    table.write_text(f"\ufeffnote,slide,um_per_pixel\nx,a.svs,0.25\ny,{tmp_path / 'b.svs'},1e0\n", encoding="utf-8")
    assert scale(str(table), tmp_path / "a.svs") == Scale(0.25, "given by sizes.csv")
    assert scale(str(table), tmp_path / "b.svs").value == 1
    assert scale(str(table), tmp_path / "c.svs") == OWN


@pytest.mark.parametrize("given", ["nan", "0", "-1", "inf", "1000", "0.001"])
def test_a_number_that_no_microscope_has_is_refused(given):
    with pytest.raises(ValueError, match="not a microscope's"):
        Scales.given(given)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "needs the columns slide and um_per_pixel"),
        ("slide;um_per_pixel\na;1\n", "needs the columns slide and um_per_pixel"),
        ("slide,um_per_pixel\n", "lists no slide: write a line for each under slide,um_per_pixel"),
        ("slide,um_per_pixel\n\n\n", "lists no slide"),
        ("slide,um_per_pixel\na.svs,x\n", "line 2: um_per_pixel must be a number, not 'x'"),
        ("slide,um_per_pixel\na.svs\n", "line 2: um_per_pixel must be a number, not ''"),
        ("slide,um_per_pixel\na.svs,900\n", "line 2: um_per_pixel 900 is not a microscope's"),
        ("slide,um_per_pixel\na.svs,nan\n", "line 2: um_per_pixel nan is not a microscope's"),
        ("slide,um_per_pixel\n,1\n", "line 2: slide must be the name of a slide's file"),
        ("slide,um_per_pixel\na.svs,1\na.svs,2\n", "line 3: a.svs has two values, 1 and 2: keep one"),
        ("slide,um_per_pixel\n" + "a" * 200_000 + ",1\n", "is not CSV"),
    ],
)
def test_a_list_that_is_wrong_is_refused_with_its_line(content, words, tmp_path):
    table = tmp_path / "sizes.csv"
    table.write_text(content)
    with pytest.raises(ValueError, match=words):
        Scales.given(str(table))


def test_what_is_neither_a_number_nor_a_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is neither a number nor a file: give micrometres of a pixel, or a list"):
        Scales.given(str(tmp_path / "0,25"))


def test_a_slide_without_a_scale_is_refused_and_what_cannot_be_is_said(tmp_path):
    with pytest.raises(ValueError, match=r"does not say how large its pixels are: give --um-per-pixel \(40x"):
        scale(None, tmp_path / "a.svs", None)
    slide = SimpleNamespace(path=tmp_path / "a.svs", scale=None, absurd_scale=Scale(1e-4, "OME-XML PhysicalSizeX"))
    with pytest.raises(ValueError, match=r"says that a pixel has 0\.0001 micrometres \(OME-XML PhysicalSizeX\), as no"):
        Scales().of(slide)
