"""The maps as the programs that they are for read them."""

import io
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
from PIL import Image

from bach_keras.serving.slide import maps
from bach_keras.serving.slide.colours import COLOURS, FAILED
from bach_keras.serving.slide.ome import pyramid, write_class_ome, write_ome
from bach_keras.serving.slide.pictures import given_carci, of_classes
from bach_keras.serving.slide.raster import raster
from datasets.images.scale import Scale, um_per_pixel
from datasets.labels import CLASSES
from tests.full_disk import fill_the_disk
from tests.serving.slide import made

OME = "{http://www.openmicroscopy.org/Schemas/OME/2016-06}"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("maps")
    slide = made.stripes(2_400, 1_200, unsure=True, scale=Scale(0.5, "OME-XML PhysicalSizeX"), name="S 1 ü.tiff")
    maps.write_maps(folder, slide)
    return folder, slide


def test_the_probabilities_are_a_pyramid_of_a_channel_for_each_class(written):
    folder, slide = written
    with tifffile.TiffFile(folder / "probabilities.ome.tiff") as file:
        [series] = file.series
        assert (series.axes, series.dtype, file.is_ome) == ("CYX", np.float32, True)
        sizes = [level.shape for level in series.levels]
        assert sizes == [(4, 200, 400), (4, 100, 200), (4, 50, 100), (4, 25, 50)]
        for level in series.levels:
            np.testing.assert_allclose(level.asarray().sum(axis=0), 1, atol=1e-5)
        expected = np.moveaxis(raster(slide).probabilities, -1, 0)
        np.testing.assert_array_equal(series.asarray(), expected)


def test_ome_xml_names_the_channels_and_says_how_large_a_pixel_of_the_map_is(written):
    folder, _ = written
    with tifffile.TiffFile(folder / "probabilities.ome.tiff") as file:
        root = ElementTree.fromstring(file.ome_metadata)
    pixels = root.find(f"{OME}Image/{OME}Pixels")
    # A pixel of the map is 100 // 16 pixels of the slide, of 0.5 um each.
    assert (pixels.get("PhysicalSizeX"), pixels.get("PhysicalSizeY")) == ("3.0", "3.0")
    assert pixels.get("PhysicalSizeXUnit") == "µm"
    assert [channel.get("Name") for channel in pixels.iter(f"{OME}Channel")] == list(CLASSES)
    said = root.find(f"{OME}Image/{OME}Description").text
    assert "0.5 um wide (OME-XML PhysicalSizeX)" in said
    assert "S 1 ü.tiff" in said


def test_the_map_says_its_scale_to_this_projects_own_reader_too(written):
    assert um_per_pixel(written[0] / "probabilities.ome.tiff") == Scale(3.0, "OME-XML PhysicalSizeX")


def test_the_classes_are_a_pyramid_of_numbers_that_its_description_names(written):
    folder, slide = written
    with tifffile.TiffFile(folder / "classes.ome.tiff") as file:
        [series] = file.series
        assert (series.axes, series.dtype, file.is_ome) == ("YX", np.uint8, True)
        levels = [level.asarray() for level in series.levels]
        root = ElementTree.fromstring(file.ome_metadata)
    assert [level.shape for level in levels] == [(200, 400), (100, 200), (50, 100), (25, 50)]
    np.testing.assert_array_equal(levels[0], raster(slide).labels + 1)
    for number, level in enumerate(levels):
        np.testing.assert_array_equal(level, levels[0][:: 2**number, :: 2**number])
    pixels = root.find(f"{OME}Image/{OME}Pixels")
    assert (pixels.get("PhysicalSizeX"), pixels.get("PhysicalSizeXUnit")) == ("3.0", "µm")
    said = root.find(f"{OME}Image/{OME}Description").text
    assert "0 nothing was answered, 1 normal, 2 benign, 3 insitu, 4 invasive." in said
    assert "0.5 um wide (OME-XML PhysicalSizeX)" in said
    assert um_per_pixel(folder / "classes.ome.tiff") == Scale(3.0, "OME-XML PhysicalSizeX")


def test_what_was_not_answered_is_0_at_every_level_and_thins_out_nothing():
    slide = made.slide([made.tile(0, 0, "benign"), made.tile(300, 100, None)], 410, 210, step=16)
    levels = pyramid(raster(slide).probabilities)
    assert [level.shape[1] for level in levels] == [410, 205, 103, 52]
    for level in levels:
        sums = level.sum(axis=-1)
        assert set(np.round(sums.ravel(), 5).tolist()) == {0.0, 1.0}
        assert np.isfinite(level).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (3, 5)])
def test_a_pyramid_of_any_size_ends(size):
    levels = pyramid(np.full((*size, 4), 0.25, np.float32))
    assert all(max(level.shape[:2]) >= 1 for level in levels)
    assert max(levels[-1].shape[:2]) <= 64


def test_the_same_answers_give_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        maps.write_maps(tmp_path / name, made.stripes(unsure=False))
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name
    assert {path.name for path in (tmp_path / "one").iterdir()} == {
        "classes.png", "classes.ome.tiff", "probabilities.png", "probabilities.ome.tiff",
    }  # fmt: skip


def test_the_classes_have_the_ratio_of_the_slide_and_their_colors():
    slide = made.slide([made.tile(0, 0, "insitu"), made.tile(300, 100, "benign"), made.tile(200, 0, None)])
    white = np.full((300, 600, 3), 255, np.uint8)
    picture = of_classes(slide, raster(slide), white, covers=1)
    assert picture[75, 75].tolist() == list(COLOURS["insitu"])
    assert picture[225, 525].tolist() == list(COLOURS["benign"])
    assert picture[75, 375].tolist() == list(FAILED)
    assert picture[225, 75].tolist() == [255, 255, 255]


def test_what_is_unsure_is_in_stripes():
    rows = [made.row("invasive", unsure=False), made.row("invasive", unsure=True)]
    slide = made.slide([made.tile(0, 0, rows[0]), made.tile(200, 0, rows[1])], step=96)
    picture = of_classes(slide, raster(slide), np.full((200, 400, 3), 255, np.uint8), covers=1)
    colours = [len(np.unique(part.reshape(-1, 3), axis=0)) for part in (picture[:90, :90], picture[:90, 210:290])]
    assert colours == [1, 2]


def test_the_pictures_open_and_say_the_scale_and_where_it_is_from(written):
    folder, _ = written
    for name in ("classes.png", "probabilities.png"):
        with Image.open(io.BytesIO((folder / name).read_bytes())) as picture:
            picture.load()
            assert "0.5 um a pixel of the slide, from OME-XML PhysicalSizeX" in picture.text["Description"]
            assert "S 1 ü.tiff" in picture.text["Title"]


@pytest.mark.parametrize(
    "slide",
    [
        made.slide([]),
        made.slide([made.tile(0, 0, None)]),
        made.slide([made.tile(0, 0, made.node_row("carcinoma"))]),
        made.slide([made.tile(0, 0, "benign")], 100, 20_000, name="組織\n\x01\udcff.tiff"),
        made.slide([made.tile(0, 0, "benign")], 20_000, 100, scale=Scale(0.2, "scales.csv \udcff 組織")),
    ],
    ids=["no tile", "an error alone", "a node", "tall, with an odd name", "flat"],
)
def test_odd_slides_have_maps(tmp_path, slide):
    maps.write_maps(tmp_path, slide)
    with tifffile.TiffFile(tmp_path / "probabilities.ome.tiff") as file:
        assert file.series[0].shape[0] == len(slide.classes)


def test_routed_probabilities_are_said_to_be_given_carcis_answer(tmp_path):
    routed, soft = (made.slide([made.tile(0, 0, made.row(routed=each))]) for each in (True, False))
    assert "given carci's answer" in given_carci(routed)
    assert given_carci(soft) == given_carci(made.slide([made.tile(0, 0, made.node_row())])) == ""
    maps.write_maps(tmp_path, routed)
    with tifffile.TiffFile(tmp_path / "probabilities.ome.tiff") as file:
        assert "given carci's answer" in file.ome_metadata


@pytest.mark.parametrize("write", [maps.write_classes, maps.write_probabilities, write_ome, write_class_ome])
def test_a_full_disk_leaves_what_was_there(tmp_path, write):
    path = tmp_path / "map"
    path.write_bytes(b"as it was")
    fill_the_disk(path)
    with pytest.raises(OSError, match="map cannot be written: No space left"):
        write(path, made.stripes(), raster(made.stripes()))
    assert [each.name for each in tmp_path.iterdir()] == ["map"]
    assert path.read_bytes() == b"as it was"


@pytest.mark.parametrize(("value", "expected"), [(1, 1), (4.9, 2), (0.051, 0.05), (99, 50), (0.5, 0.5)])
def test_a_scale_bar_has_a_round_length(value, expected):
    assert maps._round_below(value) == pytest.approx(expected)
