"""The look at the training images: which there are, and what is kept of each."""

import hashlib
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from bach_keras.evidence import survey as surveys
from bach_keras.evidence.quality import measures
from bach_keras.evidence.survey import TrainingImages, survey
from bach_keras.hierarchy import Hierarchy
from bach_keras.provenance import Provenance
from datasets import phantom
from datasets.errors import MissingError, UserError
from tests.few_phantoms import training_records


class Held:
    """Stands in for a ``Prepared``."""

    folder = "/data/phantom"

    def __init__(self, config, data_dir):
        self.config = config
        names = {"phantom": [f"{number}.png" for number in range(9)], "own-a": ["a/1.png"], "own-b": ["b/1.png"]}
        self.names = names.get(config, ["8.png", "9.png"])

    @property
    def digests(self):
        if self.config == "bach":
            raise MissingError("bach is not prepared in /data: run `data prepare` first.")
        return {name: digest(name) for name in self.names}

    @property
    def scales(self):
        return {name: 0.25 if name == "8.png" else None for name in self.names}

    def load(self, names):
        names = [name for name in self.names if name in names]
        fields = {"group": ["P1"] * len(names), "source": [self.config] * len(names)}
        return tf.data.Dataset.from_tensor_slices({"filename": names, **fields})


def digest(name):
    return hashlib.sha256(name.encode()).hexdigest()


def looked_for(configs, names):
    """Return the training images with these names, of which nothing more is known."""
    return TrainingImages(configs, Provenance(frozenset(names)))


@pytest.fixture(autouse=True)
def held(monkeypatch):
    opened = lambda configs, data_dir: [Held(config, data_dir) for config in sorted(configs)]  # noqa: E731
    monkeypatch.setattr(surveys, "open_parts", opened)


def names(training):
    found = [record["filename"].decode() for record in training]
    assert len(found) == len(training)
    return sorted(found)


def test_they_are_those_that_trained_and_are_here_each_once():
    assert names(looked_for(["phantom"], ["1.png", "3.png", "elsewhere.png"])) == ["1.png", "3.png"]
    assert names(looked_for(["phantom", "bisque"], ["8.png", "9.png"])) == ["8.png", "9.png"]
    assert names(looked_for(["bach", "phantom"], ["n001.tif", "0.png"])) == ["0.png"]


def test_each_has_its_scale_and_the_middle_one_that_is_known_counts_for_the_others():
    training = looked_for(["phantom"], ["7.png", "8.png"])
    assert [record["um_per_pixel"] for record in training] == [None, 0.25]
    assert training.um_per_pixel == 0.25
    assert looked_for(["phantom"], ["7.png"]).um_per_pixel is None


def test_patients_of_two_own_sets_that_are_called_alike_are_two():
    assert [record["group"] for record in looked_for(["own-a"], ["a/1.png"])] == [b"P1"]
    both = looked_for(["own-a", "own-b"], ["a/1.png", "b/1.png"])
    assert sorted(record["group"] for record in both) == [b"own-a/P1", b"own-b/P1"]


def test_of_very_many_some_are_taken_always_the_same(monkeypatch):
    monkeypatch.setattr(surveys, "MOST", 4)
    trained_on = [f"{number}.png" for number in range(9)]
    found = names(looked_for(["phantom"], trained_on))
    assert len(found) == 4
    assert found == names(looked_for(["phantom"], trained_on[::-1]))


def test_images_whose_set_was_changed_since_they_trained_are_left_out(caplog):
    digests = {"1.png": digest("1.png"), "3.png": digest("as it was")}
    assert names(TrainingImages(["phantom"], Provenance.of(digests, digests))) == ["1.png"]
    assert "1 image that trained it had other pixels then" in caplog.text


@pytest.mark.parametrize(("config", "sentence"), [("bach", "bach is not prepared"), ("phantom", "None of the images")])
def test_where_there_are_none_a_sentence_says_so(config, sentence):
    with pytest.raises(UserError, match=sentence):
        len(looked_for([config], ["elsewhere.png"]))


def test_each_is_kept_with_its_features_in_the_order_of_their_names(members, few_phantoms):
    records = training_records(few_phantoms)
    tree = Hierarchy(members)
    seen = survey(tree, records[::-1])
    index = seen.index
    assert [known.name for known in index.images] == sorted(few_phantoms.files["train"])
    for place in (0, -1):
        known = index.images[place]
        image = next(each["image"] for each in records if each["filename"].decode() == known.name)
        assert (known.label, known.group) == (few_phantoms.labels[known.name], known.name.split("-")[2])
        np.testing.assert_allclose(index.features[place], tree.features(image[None])[0], rtol=1e-4, atol=1e-4)
        assert seen.measures[place] == measures(image, 2.24) | {"um_per_pixel": 2.24, "side": 72}
        assert max(Image.open(io.BytesIO(known.thumbnail)).size) <= surveys.SIDE


def test_a_thumbnail_is_kept_only_where_the_licence_lets_it_be_passed_on(members):
    image = phantom.draw("benign", 900, 0)[::8, ::8]
    records = [
        {"image": image, "label": 1, "filename": source.encode(), "group": b"", "source": source.encode()}
        for source in ("bach", "bisque", "own-mine", "phantom")
    ]
    index = survey(Hierarchy(members), records).index
    assert [bool(known.thumbnail) for known in index.images] == [False, False, False, True]
    assert index.thumbnails == 1
