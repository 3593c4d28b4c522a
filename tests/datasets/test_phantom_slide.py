import functools
import json

import numpy as np
import pytest
import shapely
import tifffile

from datasets import phantom, phantom_slide
from datasets.catalogue import PHANTOM
from datasets.errors import UserError
from datasets.images.scale import um_per_pixel
from datasets.labels import CLASSES
from datasets.phantom_slide import main, regions, write_phantom_slide
from tests.full_disk import fill_the_disk

WIDTH, HEIGHT = 1500, 1100


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    """A small slide with its truth, and its pixels."""
    path = tmp_path_factory.mktemp("slides") / "small.tiff"
    truth = write_phantom_slide(path, WIDTH, HEIGHT, seed=3)
    return path, json.loads(truth.read_text()), tifffile.imread(path, key=0)


def polygons(truth):
    return [shapely.geometry.shape(feature["geometry"]) for feature in truth["features"]]


def labels(truth):
    return [feature["properties"]["classification"]["name"] for feature in truth["features"]]


@functools.cache
def drawn(label, patient, index):
    return phantom.draw(label, patient, index, seed=3)


def nearest_label(pixels, x, y, patient):
    """Return the class of the phantom that a window within one brick shows best."""
    course = y // phantom.HEIGHT
    left = (x + phantom.WIDTH // 2 * (course % 2)) % phantom.WIDTH
    top = y % phantom.HEIGHT
    window = pixels[y : y + 32, x : x + 32].astype(int)
    differences = {
        label: min(
            np.abs(drawn(label, patient, index)[top : top + 32, left : left + 32] - window).mean()
            for index in range(1, 6)
        )
        for label in CLASSES
    }
    return min(differences, key=differences.get)


def within_a_brick(x, y):
    course = y // phantom.HEIGHT
    left = (x + phantom.WIDTH // 2 * (course % 2)) % phantom.WIDTH
    return left <= phantom.WIDTH - 32 and y % phantom.HEIGHT <= phantom.HEIGHT - 32


def test_every_region_of_the_truth_shows_phantoms_of_its_class(slide):
    _, truth, pixels = slide
    found = regions(WIDTH, HEIGHT, seed=3)
    for region, polygon, label in zip(found, polygons(truth), labels(truth), strict=True):
        inside = [
            (x, y)
            for x in range(0, WIDTH - 32, 16)
            for y in range(0, HEIGHT - 32, 16)
            if within_a_brick(x, y) and polygon.contains(shapely.box(x, y, x + 32, y + 32))
        ]
        x, y = inside[len(inside) // 2]
        assert nearest_label(pixels, x, y, region.patient) == label


def test_between_the_pieces_is_glass(slide):
    _, truth, pixels = slide
    tissue = shapely.union_all(polygons(truth))
    glass = [
        pixels[y : y + 32, x : x + 32].mean()
        for x in range(0, WIDTH - 32, 32)
        for y in range(0, HEIGHT - 32, 32)
        if not tissue.buffer(8).intersects(shapely.box(x, y, x + 32, y + 32))
    ]
    assert len(glass) > 100
    assert min(glass) > 240


@pytest.mark.parametrize("size", [(600, 600), (1500, 1100), (9000, 2000), (40_000, 40_000)])
def test_regions_lie_on_the_slide_and_do_not_overlap(size):
    found = [shapely.Polygon(region.outline) for region in regions(*size, seed=1)]
    assert all(polygon.is_valid and shapely.box(0, 0, *size).contains(polygon) for polygon in found)
    assert sum(polygon.area for polygon in found) == pytest.approx(shapely.union_all(found).area)


def test_every_class_is_seen_in_the_stain_of_every_patient_and_none_of_a_data_set():
    found = regions(8192, 6144)
    seen = {(region.patient, region.label) for region in found}
    patients = {patient for patient, _ in seen}
    assert seen == {(patient, label) for patient in patients for label in CLASSES}
    assert min(patients) >= phantom.PATIENTS


def test_a_slide_says_that_its_pixels_are_those_of_phantoms(slide):
    assert um_per_pixel(slide[0]).value == pytest.approx(PHANTOM.um_per_pixel)


def test_the_truth_is_closed_rings_of_annotations(slide):
    for feature in slide[1]["features"]:
        (ring,) = feature["geometry"]["coordinates"]
        assert ring[0] == ring[-1]
        assert feature["properties"]["objectType"] == "annotation"


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path):
    files = []
    for number, seed in enumerate((1, 1, 2)):
        path = tmp_path / f"{number}.tiff"
        truth = write_phantom_slide(path, 620, 600, seed)
        files.append((path.read_bytes(), truth.read_bytes()))
    assert files[0] == files[1]
    assert files[0][0] != files[2][0]
    assert files[0][1] != files[2][1]


def test_a_large_slide_lays_the_same_phantoms_again(monkeypatch):
    drawn = []
    monkeypatch.setattr(phantom, "draw", lambda *which: drawn.append(which) or np.zeros((288, 384, 3), np.uint8))
    monkeypatch.setattr(phantom_slide, "_VARIETY", 2)
    for _ in phantom_slide._rows(regions(3000, 3000), 3000, 3000, seed=0):
        pass
    assert len(drawn) == len(set(drawn)) == 2 * 12


@pytest.mark.parametrize(
    ("name", "size", "words"),
    [
        ("slide.png", (800, 800), "ends in .tiff"),
        ("nowhere/slide.tiff", (800, 800), "not a folder"),
        ("slide.tiff", (599, 800), "599 x 800"),
        ("slide.tiff", (800, 200_001), "800 x 200001"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_anything_is_written(tmp_path, name, size, words):
    with pytest.raises(UserError, match=words):
        write_phantom_slide(tmp_path / name, *size)
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_what_it_wrote_and_a_mistake_exits_with_2(tmp_path, capsys):
    main([str(tmp_path / "s.tif"), "--width", "600", "--height", "600"])
    assert str(tmp_path / "s.geojson") in capsys.readouterr().out
    with pytest.raises(SystemExit) as refused:
        main([str(tmp_path / "s.tif"), "--width", "1"])
    assert refused.value.code == 2


def test_ctrl_c_while_a_slide_is_drawn_leaves_nothing_and_no_traceback(tmp_path, monkeypatch, capsys):
    def interrupted(*which):
        raise KeyboardInterrupt

    monkeypatch.setattr(phantom, "draw", interrupted)
    with pytest.raises(SystemExit) as stopped:
        main([str(tmp_path / "s.tiff"), "--width", "600", "--height", "600"])
    assert stopped.value.code == 130
    assert capsys.readouterr().err.endswith("Interrupted.\n")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_sentence(tmp_path, capsys):
    fill_the_disk(tmp_path / "s.tiff")
    with pytest.raises(SystemExit, match="cannot be written: No space left"):
        main([str(tmp_path / "s.tiff"), "--width", "600", "--height", "600"])
