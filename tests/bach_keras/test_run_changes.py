from bach_keras.run_changes import differences

ORIGIN = {"seed": 0, "patients_sha256": None, "note": ""}


def test_what_is_said_of_a_split_does_not_change_it():
    settings = {"split_origin": ORIGIN, "protocol": "patient"}
    said = {**ORIGIN, "note": "Nobody can check it.", "patients": {"b001.tif": "7"}}
    assert differences(settings, {"split_origin": said}) == []
    assert differences({}, {"split_origin": {"note": "x"}}) == []


def test_another_seed_or_sheet_does():
    for changed in ({"seed": 1}, {"patients_sha256": "0"}):
        [sentence] = differences({"split_origin": ORIGIN}, {"split_origin": ORIGIN | changed})
        assert sentence.startswith("split_origin was {'seed': 0, 'patients_sha256': None}, is {")
    assert differences({}, {"split_origin": {"seed": 0}}) == ["split_origin was {}, is {'seed': 0}"]


def test_only_what_is_wanted_counts():
    settings = {"node": "carci", "init": "none", "split": {"train": ["a.tif"]}, "versions": {"numpy": "2"}}
    assert differences(settings, {"node": "carci"}) == []
    assert differences(settings, {"node": "norbe", "split": {"train": ["b.tif"]}, "versions": {"numpy": "3"}}) == [
        "node was carci, is norbe", "1 part of the split holds other images", "numpy was 2, is 3",
    ]  # fmt: skip
