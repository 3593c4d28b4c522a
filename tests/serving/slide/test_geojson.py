"""GeoJSON by the contract that QuPath reads: its documentation and its type adapters."""

import gzip
import json
import math
import tracemalloc
import uuid

import jsonschema
import pytest
import shapely

from bach_keras.serving.slide.geojson import write_geojson
from tests.full_disk import fill_the_disk
from tests.serving.slide import made

UUID = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
BYTE = {"type": "integer", "minimum": 0, "maximum": 255}
# The type bool is not a number in JSON Schema.
SCHEMA = {
    "type": "object",
    "required": ["type", "features"],
    "properties": {
        "type": {"const": "FeatureCollection"},
        "features": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["type", "geometry", "properties"],
                "properties": {
                    "type": {"const": "Feature"},
                    "id": {"type": "string", "pattern": UUID},
                    "geometry": {
                        "type": "object",
                        "required": ["type", "coordinates"],
                        "additionalProperties": False,
                        "properties": {
                            "type": {"const": "Polygon"},
                            "coordinates": {
                                "type": "array",
                                "minItems": 1,
                                "items": {
                                    "type": "array",
                                    "minItems": 4,
                                    "items": {
                                        "type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "number"},
                                    },
                                },
                            },
                        },
                    },
                    "properties": {
                        "type": "object",
                        "required": ["objectType", "classification", "measurements"],
                        "additionalProperties": False,
                        "properties": {
                            "objectType": {"enum": ["tile", "detection", "annotation", "cell"]},
                            "name": {"type": "string"},
                            "isLocked": {"type": "boolean"},
                            "classification": {
                                "type": "object",
                                "required": ["name", "color"],
                                "additionalProperties": False,
                                "properties": {
                                    "name": {"type": "string", "minLength": 1},
                                    "color": {"type": "array", "items": BYTE, "minItems": 3, "maxItems": 3},
                                },
                            },
                            "measurements": {"type": "object", "additionalProperties": {"type": "number"}},
                        },
                    },
                },
            },
        },
    },
}  # fmt: skip


def strict(text):
    """Read JSON as Java's readers may: NaN and Infinity are no JSON."""

    def refuse(constant):
        raise ValueError(constant)

    return json.loads(text, parse_constant=refuse)


def written(folder, slide):
    write_geojson(folder / "tiles.geojson", slide)
    return strict((folder / "tiles.geojson").read_text("ascii"))


def answers():
    """Return tiles with everything that a row may say, and not say."""
    odd = made.row("insitu") | {"spread": math.nan, "distance": math.inf}
    many = made.row("benign", unsure=True) | {"spread": 0.1, "distance": 2.5, "quick": False}
    rows = ["normal", made.row("invasive", routed=True), None, odd, many]
    return [made.tile(place * made.SIDE, 0, row, tissue=0.25) for place, row in enumerate(rows)]


def test_what_is_written_keeps_to_the_schema(tmp_path):
    found = written(tmp_path, made.slide(answers(), 500, 100))
    jsonschema.validate(found, SCHEMA)
    assert len(found["features"]) == 4


@pytest.mark.parametrize(
    "change",
    [
        lambda feature: feature["properties"].pop("objectType"),
        lambda feature: feature.update(objectType=feature["properties"].pop("objectType")),
        lambda feature: feature["properties"].update(objectType="Tile"),
        lambda feature: feature["properties"]["classification"].pop("color"),
        lambda feature: feature["properties"]["classification"].update(color="#a50026"),
        lambda feature: feature["properties"]["measurements"].update(unsure=True),
        lambda feature: feature["properties"]["measurements"].update(spread=None),
        lambda feature: feature.update(id="tile-7"),
    ],
)
def test_what_qupath_would_not_read_breaks_the_schema(tmp_path, change):
    found = written(tmp_path, made.slide(answers(), 500, 100))
    change(found["features"][0])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(found, SCHEMA)


def test_a_tile_has_its_class_with_a_color_and_all_probabilities_and_those_of_the_nodes(tmp_path):
    [feature] = written(tmp_path, made.slide([made.tile(0, 0, made.row("insitu", 0.75, unsure=True))]))["features"]
    assert feature["properties"]["objectType"] == "tile"
    assert feature["properties"]["classification"] == {"name": "insitu", "color": [230, 159, 0]}
    measured = feature["properties"]["measurements"]
    assert measured["prob_insitu"] == 0.5625
    assert sum(value for name, value in measured.items() if name.startswith("prob_")) == pytest.approx(1)
    assert measured["invis_insitu"] == measured["carci_carcinoma"] == 0.75
    assert measured["unsure"] == 1
    assert measured["tissue"] == 1


def test_what_was_not_measured_is_left_out(tmp_path):
    features = written(tmp_path, made.slide(answers(), 500, 100))["features"]
    measured = [feature["properties"]["measurements"] for feature in features]
    assert "norbe_benign" not in measured[1]  # it was not run
    assert measured[1]["prob_benign"] == 0
    assert "unsure" not in measured[0]
    assert "spread" not in measured[2]
    assert (measured[3]["distance"], measured[3]["quick"]) == (2.5, 0)
    assert "quick" not in measured[0]


def test_shapely_reads_each_polygon_as_what_of_the_tile_lies_in_the_slide(tmp_path):
    tiles = [made.tile(0, 0, "normal"), made.tile(350, 150, "benign")]
    features = written(tmp_path, made.slide(tiles))["features"]
    shapes = [shapely.geometry.shape(feature["geometry"]) for feature in features]
    assert [shape.bounds for shape in shapes] == [(0, 0, 100, 100), (350, 150, 400, 200)]
    assert all(shape.is_valid and shape.exterior.is_ccw for shape in shapes)


def test_the_scale_and_the_tiles_that_are_left_out_are_said_beside_the_features(tmp_path):
    about = written(tmp_path, made.slide(answers(), 500, 100))["slide"]
    assert about["um_per_pixel"] == 1
    assert about["um_per_pixel_source"] == "OME-XML PhysicalSizeX"
    assert (about["tiles"], about["tiles_with_errors_left_out"]) == (4, 1)


def test_every_tile_has_an_id_of_its_own_that_stays_the_same(tmp_path):
    first, again = (written(tmp_path, made.stripes()) for _ in range(2))
    found = [feature["id"] for feature in first["features"]]
    assert len(set(found)) == len(found) == 8
    assert [feature["id"] for feature in again["features"]] == found
    assert uuid.UUID(found[0]).version == 5


def test_a_name_in_gz_is_compressed_and_the_same_tiles_give_the_same_bytes(tmp_path):
    slide = made.stripes()
    plain, packed, again = (tmp_path / name for name in ("a.geojson", "a.geojson.gz", "another.geojson.gz"))
    for path in (plain, packed, again):
        assert write_geojson(path, slide) == 8
    assert gzip.decompress(packed.read_bytes()) == plain.read_bytes()
    assert packed.read_bytes() == again.read_bytes()


def test_tiles_are_written_one_after_the_other(tmp_path):
    benign = made.row("benign")

    class Tiles:
        def __len__(self):
            return 4_000

        def __iter__(self):
            return (made.tile(place % 200 * 100, place // 200 * 100, benign) for place in range(len(self)))

    slide = made.slide([], 20_000, 25_000)
    object.__setattr__(slide, "tiles", Tiles())
    tracemalloc.start()
    write_geojson(tmp_path / "many.geojson", slide)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "many.geojson").stat().st_size > 2e6
    assert peak < 4e5


@pytest.mark.parametrize("name", ["tiles.geojson", "tiles.geojson.gz"])
def test_a_full_disk_leaves_nothing(tmp_path, name):
    fill_the_disk(tmp_path / name)
    with pytest.raises(OSError, match="cannot be written: No space left"):
        write_geojson(tmp_path / name, made.stripes())
    assert list(tmp_path.iterdir()) == []


def test_a_slide_without_tiles_is_an_empty_collection(tmp_path):
    assert written(tmp_path, made.slide([]))["features"] == []


def test_a_node_alone_is_written_with_its_two_classes(tmp_path):
    found = written(tmp_path, made.slide([made.tile(0, 0, made.node_row("carcinoma"))]))
    jsonschema.validate(found, SCHEMA)
    assert found["features"][0]["properties"]["classification"]["name"] == "carcinoma"


def test_any_name_of_a_slide_is_written_in_ascii(tmp_path):
    about = written(tmp_path, made.slide([], name='Präparat "7"\n\x1b[2J\udcff.tiff'))["slide"]
    assert about["name"] == 'Präparat "7"\\n\\x1b[2J\\udcff.tiff'
