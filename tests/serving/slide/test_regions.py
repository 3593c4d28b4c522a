"""Regions as QuPath writes them, and as it does not."""

import gzip
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import shapely

from bach_keras.serving.slide import region_file
from bach_keras.serving.slide.regions import SPELLINGS, label_of, pieces, read_regions
from bach_keras.serving.slide.tiles import Tile
from datasets.errors import UserError

WIDTH, HEIGHT = 1_000, 800


def square(left=100, top=100, side=200):
    right, bottom = left + side, top + side
    return [[[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]]


def feature(coordinates=None, said=None, kind="annotation", **more):
    """Return an object as QuPath 0.4 and later write it."""
    properties = {} if kind is None else {"objectType": kind}
    if said is not None:
        properties["classification"] = {"name": said, "color": [200, 0, 0]}
    geometry = {"type": "Polygon", "coordinates": coordinates or square()}
    given = {"type": "Feature", "id": "8b0a3c9e-8f55-4e6c-9f2b-1f9f4f0a7d11", "geometry": geometry}
    return given | {"properties": properties | more.pop("properties", {})} | more


def collection(*features):
    return {"type": "FeatureCollection", "features": list(features)}


def read(folder, content):
    path = folder / "regions.geojson"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_regions(path, WIDTH, HEIGHT)


def areas(regions):
    return [region.area for region in regions.regions]


@pytest.mark.parametrize(
    "wrap",
    [
        collection,
        lambda one: [one],
        lambda one: one,
        lambda one: one["geometry"],
        lambda one: {"features": [one]},
        lambda one: collection(feature(square(0, 0, 50), kind="detection", properties={"childObjects": [one]})),
    ],
    ids=["collection", "list", "feature", "geometry", "without a type", "a child"],
)
def test_every_form_that_qupath_reads_is_read(tmp_path, wrap):
    assert areas(read(tmp_path, wrap(feature()))) == [40_000]


def test_a_compressed_file_and_one_with_a_byte_order_mark_are_read(tmp_path):
    text = json.dumps(collection(feature())).encode()
    for content in (gzip.compress(text), b"\xef\xbb\xbf" + text):
        (tmp_path / "a.json").write_bytes(content)
        assert areas(read_regions(tmp_path / "a.json", WIDTH, HEIGHT)) == [40_000]


def test_a_tile_touches_a_region_only_if_they_share_area(tmp_path):
    hole = square(300, 300, 300)[0]
    regions = read(tmp_path, collection(feature([square(200, 200, 500)[0], hole])))
    found = {place: regions.touches(Tile(*place, 100, 100, 1)) for place in [(0, 0), (100, 200), (110, 200)]}
    assert found == {(0, 0): False, (100, 200): False, (110, 200): True}
    assert not regions.touches(Tile(350, 350, 100, 100, 1))  # in the hole
    assert regions.touches(Tile(550, 350, 100, 100, 1))


def test_what_boxes_share_with_regions_is_their_common_area(tmp_path):
    regions = read(tmp_path, collection(feature(), feature(square(500, 500, 100))))
    region, box, shared = regions.shared([[50, 50, 150, 150], [0, 0, 800, 800]])
    found = {(int(r), int(t)): area for r, t, area in zip(region, box, shared, strict=True)}
    assert found == {(0, 0): 2_500, (0, 1): 40_000, (1, 1): 10_000}


def test_parts_and_holes_of_a_multipolygon_count(tmp_path):
    parts = [[square(0, 0, 100)[0], square(20, 20, 10)[0]], square(200, 200, 50)]
    one = feature() | {"geometry": {"type": "MultiPolygon", "coordinates": parts}}
    assert areas(read(tmp_path, one)) == [10_000 - 100 + 2_500]


def test_a_collection_of_geometries_is_one_region_of_its_polygons(tmp_path):
    geometries = [
        {"type": "Polygon", "coordinates": square(0, 0, 100)}, {"type": "Point", "coordinates": [5, 5]},
        {"type": "Polygon", "coordinates": square(50, 0, 100)},
    ]  # fmt: skip
    one = feature() | {"geometry": {"type": "GeometryCollection", "geometries": geometries}}
    assert areas(read(tmp_path, one)) == [15_000]


@pytest.mark.parametrize(
    ("coordinates", "area"),
    [
        ([square()[0][:4]], 40_000),
        ([[[x, y, 7] for x, y in square()[0]]], 40_000),
        ([[[0, 0], [100, 100], [100, 0], [0, 100], [0, 0]]], 5_000),
    ],
    ids=["not closed", "three numbers", "crosses itself"],
)
def test_outlines_that_are_not_quite_right_are_read(tmp_path, coordinates, area):
    assert areas(read(tmp_path, feature(coordinates))) == [area]


def test_an_outline_that_crosses_itself_is_told(tmp_path):
    [note] = read(tmp_path, feature([[[0, 0], [100, 100], [100, 0], [0, 100], [0, 0]]])).notes
    assert "crossed itself" in note


@pytest.mark.parametrize(
    "odd",
    [
        feature(kind="tile"),
        feature(kind="detection"),
        feature() | {"id": "PathDetectionObject"},
        feature(said="Ignore*"),
        feature() | {"geometry": None},
        feature() | {"geometry": {"type": "Polygon", "coordinates": []}},
        feature() | {"geometry": {"type": "MultiPolygon", "coordinates": []}},
        feature([[[0, 0], [9, 9], [0, 0]]]),
        feature() | {"geometry": {"type": "MultiPoint", "coordinates": [[5, 5]]}},
        feature() | {"geometry": {"type": "LineString", "coordinates": [[5, 5], [9, 9]]}},
    ],
)
def test_objects_that_are_no_regions_are_passed_over_and_told(tmp_path, odd):
    regions = read(tmp_path, collection(odd, feature()))
    assert areas(regions) == [40_000]
    [note] = regions.notes
    assert "passed over: 1 " in note
    with pytest.raises(UserError, match="has no outlined region, only 1 "):
        read(tmp_path, collection(odd))


def test_what_a_slide_command_wrote_is_not_taken_for_a_pathologists_regions(tmp_path):
    from bach_keras.serving.slide.geojson import write_geojson
    from tests.serving.slide import made

    write_geojson(tmp_path / "tiles.geojson.gz", made.stripes())
    with pytest.raises(UserError, match="only 8 tile"):
        read_regions(tmp_path / "tiles.geojson.gz", 400, 200)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is not GeoJSON"),
        ("<xml/>", "is not GeoJSON"),
        ('{"type": "FeatureCollection", "features": [', "is not GeoJSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a": ' + "9" * 5_000 + "}", "is not GeoJSON"),
        ("[]", "has no outlined region"),
        ("7", "object 1 is not a GeoJSON feature"),
        ({"type": "Topology"}, "it has no features"),
        (collection({"type": "Feature"}), "object 1 is not a GeoJSON feature"),
        (collection(feature(), [1]), "object 2 is not a GeoJSON feature"),
        (feature([[["a", 0], [1, 1], [2, 0]]]), "whose coordinates are not lists of"),
        (feature([[0, 1, 2]]), "whose coordinates are not lists of"),
        (feature([[[0], [1], [2]]]), "whose coordinates are not lists of"),
        (feature() | {"geometry": {"type": "Polygon"}}, "whose coordinates are not lists of"),
        (feature() | {"geometry": {"type": "Polygon", "coordinates": {"x": 1}}}, "whose coordinates are not lists of"),
        (feature() | {"geometry": {"type": "Circle"}}, "a geometry that GeoJSON does not know"),
        (feature() | {"geometry": []}, "a geometry that GeoJSON does not know"),
        (feature([[[0, 0], [float("nan"), 0], [5, 5]]]), "NaN or infinite"),
        (feature([[[0, 0], [float("inf"), 0], [5, 5]]]), "NaN or infinite"),
        (feature([[[0, 0], [None, 0], [5, 5]]]), "are not lists of|NaN or infinite"),
        (feature([[[0, 0], [1e300, 0], [5, 5]]]), "where no slide has a pixel"),
        (feature([[[0, 0], [10**400, 0], [5, 5]]]), "are not lists of"),
        (feature(square(1_000, 0, 500)), "no region lies on the slide, which has 1000 x 800 pixels; they span x 1000"),
        (feature(square(0, 0, 1)), "not shares of the slide"),
    ],
)
def test_a_file_that_is_not_of_regions_of_this_slide_is_refused_in_one_sentence(tmp_path, content, said):
    with pytest.raises(UserError, match=said) as raised:
        read(tmp_path, content)
    assert str(raised.value).endswith(".")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PK\x03\x04rest", "is a ZIP archive"),
        (b"\xac\xed\x00\x05rest", "is a QuPath data file"),
        (b"\xff\xfe[\x00]\x00", "is not text in UTF-8"),
        (gzip.compress(b"[]", mtime=0)[:-6], "incomplete gzip"),
        (gzip.compress(b"[]" * 1_000, mtime=0)[:12] + b"\0\xff" * 8, "gzip"),
    ],
)
def test_other_files_are_called_what_they_are(tmp_path, content, said):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(UserError, match=said):
        read_regions(tmp_path / "a", WIDTH, HEIGHT)


def test_a_file_that_is_not_there_a_folder_and_a_pipe_are_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_regions(tmp_path / "none", WIDTH, HEIGHT)
    with pytest.raises(UserError, match="is not a file"):
        read_regions(tmp_path, WIDTH, HEIGHT)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="is not a file"):
        read_regions(tmp_path / "pipe", WIDTH, HEIGHT)


def test_a_small_file_that_unpacks_to_a_huge_one_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(region_file, "MOST_BYTES", 2**20)
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(b" " * 2**24))
    with pytest.raises(UserError, match="holds more than 1 MiB"):
        read_regions(tmp_path / "bomb.gz", WIDTH, HEIGHT)


def test_nan_among_qupaths_measurements_is_no_fault(tmp_path):
    assert areas(read(tmp_path, feature(properties={"measurements": {"Solidity": float("nan")}}))) == [40_000]


def test_what_lies_beyond_the_slide_is_left_out_and_told(tmp_path):
    some = collection(feature(square(900, 0, 200)), feature(square(2_000, 0, 10)), feature())
    regions = read(tmp_path, some)
    assert areas(regions) == [20_000, 40_000]
    assert any("1 of 3 regions lie outside the slide" in note for note in regions.notes)
    assert any("1 of 3 regions reach beyond" in note for note in regions.notes)


@pytest.mark.parametrize(
    ("said", "label"),
    [
        ("Normal", "normal"),
        ("BENIGN", "benign"),
        ("DCIS", "insitu"),
        ("In-situ carcinoma", "insitu"),
        ("Carcinoma in situ", "insitu"),
        ("InSitu", "insitu"),
        ("Invasive_carcinoma", "invasive"),
        ("Invasive carcinoma (NST)", "invasive"),
        ("Tumor", "malignant"),
        ("Stroma", None),
        ("LCIS", None),
        ("Tumor: Positive", None),
        ("not invasive", None),
        (None, None),
    ],
)
def test_the_name_of_a_class_means_a_label_only_where_it_is_known(said, label):
    assert label_of(said) == label


@pytest.mark.parametrize(
    ("classification", "said"),
    [
        ({"name": "DCIS", "colorRGB": -3670016}, "DCIS"),
        ({"names": ["Tumor", "Positive"], "color": [1, 2, 3]}, "Tumor: Positive"),
        ("DCIS", "DCIS"),
        (None, None),
        ({}, None),
        ({"name": 7}, None),
    ],
)
def test_a_class_is_read_in_the_forms_of_all_versions(tmp_path, classification, said):
    [region] = read(tmp_path, feature(properties={"classification": classification})).regions
    assert region.said == said


def test_classes_that_are_not_known_are_named_and_the_known_ones_listed(tmp_path):
    some = collection(feature(said="Stroma"), feature(said="Stroma"), feature(said="DCIS"))
    [note] = read(tmp_path, some).notes
    assert '"Stroma" (2 regions)' in note
    assert "Known are names such as" in note


def test_the_documentation_lists_every_name_that_is_known():
    page = (Path(__file__).parents[3] / "docs/slides.md").read_text("utf-8").casefold()
    rows = [re.split(r"[|,]", line) for line in page.splitlines() if line.startswith("|")]
    listed = {cell.strip() for row in rows for cell in row}
    assert {name for names in SPELLINGS.values() for name in names} - listed == set()


def test_of_many_unknown_classes_a_few_are_named(tmp_path):
    [note] = read(tmp_path, collection(*(feature(said=f"class {number}") for number in range(99)))).notes
    assert '"class 9" (1 region) and 89 more.' in note


def test_an_outline_of_many_vertices_is_cut_into_pieces_without_loss():
    turn = np.linspace(0, 2 * np.pi, 20_000, endpoint=False)
    radius = 400 + 80 * np.sin(40 * turn) + 5 * np.sin(900 * turn)
    outline = np.stack([radius * np.cos(turn), radius * np.sin(turn)], axis=1)
    whole = shapely.Polygon(outline, [np.array([[-50, -50], [50, -50], [50, 50], [-50, 50]])])
    found = pieces(whole)
    assert len(found) > 50
    assert max(shapely.get_num_coordinates(found)) < 400
    assert sum(shapely.area(found)) == pytest.approx(whole.area, rel=1e-9)
    assert shapely.is_valid(found).all()


def test_many_vertices_in_one_pixel_come_to_an_end():
    turn = np.linspace(0, 2 * np.pi, 5_000, endpoint=False)
    assert len(pieces(shapely.Polygon(np.stack([0.3 * np.cos(turn), 0.3 * np.sin(turn)], axis=1)))) == 1
