"""The page of a slide, as a browser shows it and as it reads."""

import json

import numpy as np
import pytest

from bach_keras.serving.slide.agreement import agreement
from bach_keras.serving.slide.page import write_page
from bach_keras.serving.slide.pictures import with_regions
from bach_keras.serving.slide.regions import read_regions
from datasets.images.scale import Scale
from tests.chromium import Browser, needs_chromium
from tests.serving.slide import made

LONG = "a_slide_whose_name_is_longer_than_any_telephone_is_wide_" * 3
PHANTOM = "WARNING: this model learned from synthetic phantom images. Its answers about tissue mean NOTHING."


def summary(**changes):
    """Return what summary.json says."""
    return {
        "model": {"name": "BACH hierarchy", "digest": "1" * 64, "configs": ["phantom"], "warnings": [PHANTOM]},
        "tiles": {"all": 30, "background": 20, "outside": 2, "answered": 8, "failed": 0},
        "field": {"um": 100.0, "pixels": 100, "source": "the model's training images"},
        "tissue": {"least": 0.25},
        "routing": "routed",
        "quick": None,
        "agreement": None,
    } | changes  # fmt: skip


def all_of_it(folder):
    """Return a slide and a summary with everything that a page can show."""
    slide = made.stripes(unsure=True, name=f"{LONG}.tiff")
    slide = made.slide([*slide.tiles[:7], made.tile(300, 100, None)], name=slide.name)
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [[[x, 0], [x + 90, 0], [x + 90, 90], [x, 90], [x, 0]]]},
            "properties": {"name": f"{LONG} {x}", "classification": {"name": said, "color": [0, 0, 0]}},
        }
        for x, said in ((0, "Normal"), (200, "DCIS"), (300, "Tumor"), (100, LONG))
    ]
    (folder / "regions.json").write_text(json.dumps(features))
    found = agreement(read_regions(folder / "regions.json", 400, 200), slide)
    checked = {"squares": 3, "tiles": 12, "labels_changed": 1, "share": 1 / 12, "ci95": [0.01, 0.4]}
    quick = {"sure_from": 0.9, "squares": 9, "tiles": 30, "tiles_saved": 12, "checked": checked}
    return slide, summary(agreement=found, quick=quick)


def written(folder, slide, given):
    write_page(folder / "index.html", slide, given)
    return (folder / "index.html").read_text("utf-8")


def test_a_model_of_phantoms_is_called_so_loudly_and_once(tmp_path):
    page = written(tmp_path, made.stripes(), summary())
    assert page.index("<p class=loud>SYNTHETIC") < page.index("<h1>")
    assert page.count("class=loud") == 1


def test_every_other_warning_of_the_model_is_shown_too(tmp_path):
    given = summary(model={"configs": ["bach"], "warnings": ["WARNING: decodes badly."]})
    page = written(tmp_path, made.stripes(), given)
    assert "<p class=loud>WARNING: decodes badly.</p>" in page
    assert "SYNTHETIC" not in page


def test_the_scale_stands_with_where_it_is_from(tmp_path):
    page = written(tmp_path, made.stripes(scale=Scale(0.2528, "Aperio MPP in ImageDescription")), summary())
    assert "<dd>0.2528 µm a pixel<small>from Aperio MPP in ImageDescription</small></dd>" in page
    assert "no area of a tumour" in page


def test_the_tissue_of_each_class_is_a_row(tmp_path):
    page = written(tmp_path, made.stripes(scale=Scale(10.0, "told")), summary())
    numbers = "".join(f'<td class="number">{number}</td>' for number in ("2", "2.000", "25.0 %"))
    assert f'<th scope="row">invasive</th>{numbers}' in page


def test_what_a_quick_look_saved_and_changed_is_told(tmp_path):
    page = written(tmp_path, *all_of_it(tmp_path))
    assert "--quick asked 12 fewer times than there are tiles" in page
    assert "Quick look" not in written(tmp_path, made.stripes(), summary())


def test_outlines_are_drawn_where_they_are(tmp_path):
    slide, _ = all_of_it(tmp_path)
    regions = read_regions(tmp_path / "regions.json", 400, 200)
    grey = np.full((400, 800, 3), 128, np.uint8)
    drawn = with_regions(slide, grey, regions)
    assert drawn[100, 180].tolist() == [0, 0, 0]  # the right side of the first region
    assert drawn[100, 90].tolist() == drawn[300, 90].tolist() == [128, 128, 128]
    write_page(tmp_path / "index.html", slide, summary(), regions)
    assert "Black lines are the outlined regions." in (tmp_path / "index.html").read_text()


def test_tiles_far_from_the_training_images_are_told(tmp_path):
    page = written(tmp_path, made.stripes(), summary(tiles={"answered": 8, "far_from_training": 3}))
    assert "3 of 8 tiles lie farther from every training image" in page


def test_agreement_is_told_by_region_and_by_area(tmp_path):
    page = written(tmp_path, *all_of_it(tmp_path))
    assert "The class agrees: in 2 of 2 regions (1.000, 95 % interval" in page
    assert "effective n 2.0" in page
    assert "Carcinoma or not agrees: in 3 of 3 regions" in page


@pytest.mark.parametrize(
    "slide",
    [made.slide([]), made.slide([made.tile(0, 0, None)]), made.slide([made.tile(0, 0, made.node_row("carcinoma"))])],
    ids=["no tile", "an error alone", "a node"],
)
def test_a_page_needs_no_more_than_the_slide(tmp_path, slide):
    assert "NaN" not in written(tmp_path, slide, {})


def test_what_names_hold_is_text_and_no_html(tmp_path):
    page = written(tmp_path, made.stripes(name="<script>alert(1)</script>\x1b.tiff"), summary())
    assert "<script" not in page
    assert "\x1b" not in page


def test_the_same_slide_gives_the_same_page(tmp_path):
    slide, given = all_of_it(tmp_path)
    assert written(tmp_path, slide, given) == written(tmp_path, slide, given)


@pytest.fixture(scope="module")
def browser():
    opened = Browser()
    yield opened
    opened.driver.quit()


@needs_chromium
@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_the_window_reads_well_and_asks_for_nothing(browser, tmp_path, width, scheme):
    written(tmp_path, *all_of_it(tmp_path))
    browser.open(tmp_path / "index.html", width, scheme)
    assert browser.requests() == [(tmp_path / "index.html").as_uri()]
    assert browser.driver.get_log("browser") == []
    assert browser.sideways() == 0
    seen, low = browser.contrasts()
    assert seen > 80
    assert low == []


@needs_chromium
def test_every_picture_has_a_text_and_a_keyboard_reaches_every_link(browser, tmp_path):
    written(tmp_path, *all_of_it(tmp_path))
    browser.open(tmp_path / "index.html")
    script = "return [...document.querySelectorAll('img')].map(each => [each.alt, each.naturalWidth])"
    pictures = browser.driver.execute_script(script)
    assert len(pictures) == 7
    assert all(alt and width for alt, width in pictures)
    script = "return [...document.querySelectorAll('a, .scroll')].map(each => each.tabIndex)"
    assert set(browser.driver.execute_script(script)) == {0}
    heads = "return [...document.querySelectorAll('nav a')].every(a => document.querySelector(a.getAttribute('href')))"
    assert browser.driver.execute_script(heads)
