import pyarrow as pa

from bach_keras.serving.answers import Outputs
from bach_keras.serving.bulk.columns import as_table, schema

FILE = {"digest": "ab", "bytes": 3, "modified_ns": 4}
ANSWER = {
    "path": "a.png", **FILE, "width": 20, "height": 10, "label": "benign",
    "probabilities": {"normal": 0.25, "benign": 0.5, "insitu": 0.125, "invasive": 0.125},
    "nodes": {
        "carci": {"noncarcinoma": 0.75, "carcinoma": 0.25}, "norbe": {"normal": 0.5, "benign": 0.5}, "invis": None,
    },
    "unsure": True, "set": ["normal", "benign"], "spread": None, "distance": 1.5,
    "um_per_pixel": {"value": 0.42, "source": "TIFF resolution"}, "icc": {"profile": "sRGB", "applied": False},
    "warnings": [{"name": "scale", "value": 0.42, "range": [0.5, 2.0], "source": "TIFF resolution"}],
    "measured": {"blur": 0.5, "tissue": 0.75, "stain": 2.0, "features": 1.5},
}  # fmt: skip


def test_a_row_keeps_all_that_predict_says():
    (row,) = as_table([ANSWER], Outputs(), "cd").to_pylist()
    assert (row["path"], row["label"], row["model"], row["error"]) == ("a.png", "benign", "cd", None)
    assert [row[f"probabilities.{name}"] for name in ANSWER["probabilities"]] == [0.25, 0.5, 0.125, 0.125]
    assert (row["nodes.carci.carcinoma"], row["nodes.invis.insitu"]) == (0.25, None)
    assert (row["unsure"], row["set"], row["spread"], row["distance"]) == (True, ["normal", "benign"], None, 1.5)
    assert (row["um_per_pixel"], row["um_per_pixel_source"]) == (0.42, "TIFF resolution")
    assert (row["icc"], row["icc_applied"], row["measured.tissue"]) == ("sRGB", False, 0.75)
    scale = {"name": "scale", "value": 0.42, "low": 0.5, "high": 2.0, "source": "TIFF resolution"}
    assert row["warnings"] == [scale]


def test_an_error_is_a_row_with_its_file_and_nothing_else():
    (row,) = as_table([{"path": "a.png", "error": "a.png is empty.", **FILE}], Outputs(), "cd").to_pylist()
    assert {name: value for name, value in row.items() if value is not None} == {
        "path": "a.png", "error": "a.png is empty.", "model": "cd", **FILE,
    }  # fmt: skip


def test_a_model_that_says_less_leaves_null():
    less = ANSWER | {"unsure": None, "set": None, "distance": None, "warnings": None, "measured": None}
    (row,) = as_table([less | {"um_per_pixel": None, "icc": None}], Outputs(), "cd").to_pylist()
    empty = ("unsure", "set", "distance", "warnings", "measured.blur", "um_per_pixel", "icc", "icc_applied")
    assert [row[name] for name in empty] == [None] * len(empty)


def test_a_name_that_is_not_text_becomes_text():
    name = "a\udcff.png"
    table = as_table([{"path": name, "error": f"{name} is empty."}], Outputs(), "cd")
    assert table["path"][0].as_py().startswith("a\\")
    assert "\\" in table["error"][0].as_py()


def test_one_node_has_its_own_classes_and_the_columns_of_all_nodes():
    names = schema(Outputs(("carci",))).names
    assert "probabilities.carcinoma" in names
    assert "probabilities.normal" not in names
    assert "nodes.norbe.benign" in names
    assert schema(Outputs()).field("set").type == pa.list_(pa.string())
