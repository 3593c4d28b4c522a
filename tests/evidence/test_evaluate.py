import csv
import json
import logging
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from bach_keras.evidence.evaluate import evaluate, read_system
from bach_keras.evidence.predictions import read_predictions
from bach_keras.evidence.verify_result import verify_result
from bach_keras.hierarchy import Hierarchy
from bach_keras.provenance import Provenance
from bach_keras.serving.exported import Export
from bach_keras.training.start import Start
from bach_keras.tree import NODES
from datasets.catalogue import Record
from datasets.errors import UserError, WorkError
from datasets.labels import CLASSES
from tests import few_phantoms as few
from tests.datasets.a_set import write_set
from tests.evidence.system import System
from tests.full_disk import fill_the_disk
from tests.trainings import job


@pytest.fixture
def system(few_phantoms):
    return System(Provenance(frozenset(few_phantoms.files["train"]), frozenset(), frozenset({"patient"})))


@pytest.fixture(scope="module", params=["members", "export"])
def trained(request, members):
    """The same tree, in both forms that can be evaluated."""
    return Hierarchy(members) if request.param == "members" else Export(request.getfixturevalue("exported"))


def noted(data, protocol, note=""):
    return replace(data, protocol=protocol, origin={**data.origin, "note": note})


def test_each_image_and_each_node_are_scored(few_phantoms, trained, tmp_path):
    result = evaluate(trained, few_phantoms, None, tmp_path)
    assert result["split"] == "test"
    assert result["n"] == sum(map(sum, result["confusion_matrix"])) == 8
    assert {node: score["n"] for node, score in result["nodes"].items()} == {"carci": 8, "norbe": 4, "invis": 4}
    assert result == json.loads((tmp_path / "metrics.json").read_text())
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["filename"] for row in rows] == few_phantoms.files["test"]
    assert result["accuracy"] == sum(row["truth"] == row["label"] for row in rows) / 8
    for row in rows:
        assert sum(float(row[name]) for name in CLASSES) == pytest.approx(1)


def predictions(folder):
    """Return file name -> probabilities, of predictions.csv."""
    with (folder / "predictions.csv").open() as file:
        return {row["filename"]: [float(row[name]) for name in CLASSES] for row in csv.DictReader(file)}


def test_images_squared_in_the_pipeline_are_scored_as_whole_ones_to_the_bit(few_phantoms, trained, tmp_path):
    evaluate(trained, few_phantoms, "test", tmp_path)
    names = few_phantoms.files["test"]
    whole = np.stack([record["image"] for record in few_phantoms.images(names).as_numpy_iterator()])
    expected = np.asarray(trained.images(whole)["probabilities"]).tolist()
    assert predictions(tmp_path) == dict(zip(names, expected, strict=True))


@dataclass(frozen=True)
class Sizes(few.FewPhantoms):
    """Phantoms of many sizes, as BACH and BISQUE have together."""

    def images(self, filenames):
        def records():
            for number, record in enumerate(super(Sizes, self).images(filenames).as_numpy_iterator()):
                yield record | {"image": record["image"][number:, : 40 + number]}

        spec = {"label": tf.TensorSpec([], tf.int64), "filename": tf.TensorSpec([], tf.string)}
        spec["image"] = tf.TensorSpec([None, None, 3], tf.uint8)
        return tf.data.Dataset.from_generator(records, output_signature=spec)


def test_images_of_several_sizes_share_batches(few_phantoms, trained, tmp_path):
    sizes = Sizes(files=few_phantoms.files, labels=few_phantoms.labels)
    evaluate(trained, sizes, "test", tmp_path)
    found = predictions(tmp_path)
    for record in sizes.images(few_phantoms.files["test"]).as_numpy_iterator():
        alone = np.asarray(trained.images(record["image"][None])["probabilities"])[0]
        np.testing.assert_allclose(found[record["filename"].decode()], alone, atol=3e-5)


def test_the_report_shows_each_run(few_phantoms, members, tree_of_runs, tmp_path):
    folders = [str(folder) for folder in tree_of_runs.values()]
    result = evaluate(Hierarchy(members), noted(few_phantoms, "patient", "It <flatters>."), None, tmp_path, folders)
    assert result["members"] == folders
    page = (tmp_path / "report.html").read_text()
    plots = {"Confusion matrix": 1 + 3, "Training curves": 3 * 2, "Learning rate range test": 1 + 2 + 2}
    assert {name: page.count(f'aria-label="{name}') for name in plots} == plots
    assert page.count("Validation accuracy by protocol patient") == 3
    assert "<p class=note>It &lt;flatters&gt;.</p>" in page


def test_a_phantom_system_is_loudly_called_so_in_the_report_and_on_the_terminal(
    few_phantoms, trained, tmp_path, caplog
):
    evaluate(trained, few_phantoms, None, tmp_path)
    assert "WARNING: this system learned from synthetic phantom images" in caplog.text
    page = (tmp_path / "report.html").read_text()
    assert "SYNTHETIC: this system learned from" in page[: page.index("<h1>")]


def test_a_score_of_one_split_has_no_note(few_phantoms, trained, tmp_path):
    assert evaluate(trained, few_phantoms, None, tmp_path)["split_notes"] == []


def test_a_score_of_mixed_protocols_says_so_everywhere(few_phantoms, trained, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    first, second = evaluate(trained, noted(few_phantoms, "paper", "It flatters."), None, tmp_path)["split_notes"]
    assert first == "It flatters."
    assert "those that paper holds out, but members were trained under patient" in second
    page = (tmp_path / "report.html").read_text()
    for note in (first, second):
        assert note in caplog.text
        assert note in page


def test_images_that_chose_an_epoch_are_counted_and_named(few_phantoms, system, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    system.provenance |= Provenance(chosen_on=frozenset(few_phantoms.files["test"][:3]))
    assert evaluate(system, few_phantoms, "test", tmp_path)["chosen_on"] == 3
    assert "3 of these images also chose a member's epoch or init" in caplog.text
    assert "3 of these images also chose" in (tmp_path / "report.html").read_text()


def refused(system, data, out, sentence, split=None, members=()):
    """Assert that an evaluation is refused before anything is written."""
    with pytest.raises(UserError, match=sentence):
        evaluate(system, data, split, out, members)
    assert not out.exists()


def test_a_leak_is_refused(few_phantoms, system, tmp_path):
    refused(system, few_phantoms, tmp_path / "out", "16 of these 16 images trained a member", split="train")


def test_a_split_without_images_is_refused(few_phantoms, system, tmp_path):
    files = {**few_phantoms.files, "test": []}
    refused(system, replace(few_phantoms, files=files), tmp_path / "out", "has no test images", split="test")


def test_images_without_labels_are_refused(few_phantoms, system, tmp_path):
    labels = dict.fromkeys(few_phantoms.labels, "unlabelled")
    refused(system, replace(few_phantoms, labels=labels), tmp_path / "out", "None of these images is labelled normal")


def test_an_answer_of_nan_is_not_scored_as_the_first_class(few_phantoms, system, tmp_path):
    system.probabilities = [np.nan] * 4
    refused(system, few_phantoms, tmp_path / "out", "answers NaN or infinity for .*train its members again")


def test_a_run_whose_files_are_damaged_is_refused(few_phantoms, system, tmp_path):
    refused(system, few_phantoms, tmp_path / "out", "nowhere", members=[str(tmp_path / "nowhere")])


def test_a_file_in_the_place_of_the_folder_is_refused(few_phantoms, system, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file is a file, so --out .*file/out cannot be a folder"):
        evaluate(system, few_phantoms, None, tmp_path / "file" / "out")


def test_a_disk_that_fills_up_is_no_mistake_of_the_user_and_leaves_no_metrics(few_phantoms, system, tmp_path):
    fill_the_disk(tmp_path / "predictions.csv")
    with pytest.raises(WorkError, match=r"predictions\.csv cannot be written: No space left on device\.$"):
        evaluate(system, few_phantoms, None, tmp_path)
    assert list(tmp_path.iterdir()) == []


def of_bisque(few_phantoms):
    """Return the phantoms with BISQUE's labels: benign and malignant."""
    coarse = {"normal": "benign", "benign": "benign", "insitu": "malignant", "invasive": "malignant"}
    return replace(few_phantoms, labels={name: coarse[label] for name, label in few_phantoms.labels.items()})


def test_where_the_labels_are_coarse_the_headline_is_carcis(few_phantoms, system, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    result = evaluate(system, of_bisque(few_phantoms), None, tmp_path)
    assert (result["kind"], result["headline"], result["accuracy"]) == ("system", "carci", None)
    assert result["nodes"]["carci"]["n"] == 8
    assert caplog.messages[0].startswith("carci accuracy 0.500 (95 % interval ")
    assert "four-class accuracy 0" not in (tmp_path / "report.html").read_text()
    assert read_system(tmp_path / "metrics.json") == result


@pytest.mark.parametrize("node", ["carci", "norbe"])
def test_one_node_is_judged_by_itself_on_the_images_that_train_it(few_phantoms, members, tmp_path, node):
    alone = Hierarchy([member for member in members if member.node == node])
    result = evaluate(alone, few_phantoms, None, tmp_path, [member.source for member in members if member.node == node])
    assert (result["kind"], result["node"], result["headline"]) == ("node", node, node)
    assert result["n"] == {"carci": 8, "norbe": 4}[node]
    found = read_predictions(tmp_path / "predictions.csv")
    assert found.node == node
    assert found.rows[0]["label"] in NODES[node].classes
    assert read_system(tmp_path / "metrics.json") == result
    assert verify_result(tmp_path).differences == []


def test_split_all_judges_every_image_that_no_member_saw(few_phantoms, system, tmp_path):
    system.provenance |= Provenance(chosen_on=frozenset(few_phantoms.files["validation"]))
    result = evaluate(system, few_phantoms, "all", tmp_path)
    assert (result["split"], result["n"], result["chosen_on"]) == ("all", 16, 8)
    names = [row["filename"] for row in read_predictions(tmp_path / "predictions.csv").rows]
    assert names == sorted(few_phantoms.files["validation"] + few_phantoms.files["test"])
    assert result["split_notes"][0].startswith("The images are all those of phantom that no member trained on")


def test_split_all_says_whose_patients_trained_a_member(few_phantoms, system, tmp_path):
    name = few_phantoms.files["train"][0]
    system.provenance = Provenance(frozenset(few_phantoms.files["train"]) - {name})
    notes = evaluate(system, few_phantoms, "all", tmp_path)["split_notes"]
    assert "1 of them are of patients whose other images trained a member, so the score flatters." in notes


def test_split_all_of_a_set_that_was_all_trained_on_is_refused(few_phantoms, system, tmp_path):
    system.provenance = Provenance(frozenset(few_phantoms.labels))
    refused(system, few_phantoms, tmp_path / "out", "Every image of phantom trained a member", split="all")


@pytest.fixture
def copies(few_phantoms):
    return few.Copies.of(few_phantoms)


@pytest.fixture
def knowing(few_phantoms):
    """A system that knows the pixels of what trained it."""
    files = few_phantoms.files
    origin = Provenance.of(few_phantoms.prepared.digests, files["train"], files["validation"])
    return System(origin | Provenance(protocols=frozenset({"patient"})))


def test_images_that_trained_are_refused_under_any_name_and_called_by_both(few_phantoms, copies, knowing, tmp_path):
    name = few_phantoms.files["train"][0]
    both = f"16 of these 16 images trained a member .*own-lab/{name} = {name}"
    refused(knowing, copies, tmp_path / "out", both, split="train")


def test_a_name_with_signs_that_files_are_written_without_has_its_picture(few_phantoms, system, tmp_path, monkeypatch):
    first, mark = few_phantoms.files["test"][0], "\u200f"

    class Marked(type(few_phantoms)):
        """The same images, each named with a right-to-left mark behind."""

        @property
        def prepared(self):
            digests = {f"{name}{mark}": digest for name, digest in few_phantoms.prepared.digests.items()}
            return SimpleNamespace(digests=digests, scales=dict.fromkeys(digests))

        @property
        def groups(self):
            return {f"{name}{mark}": group for name, group in few_phantoms.groups.items()}

        def images(self, filenames):
            assert all(name.endswith(mark) for name in filenames)
            found = few_phantoms.images([name.removesuffix(mark) for name in filenames])
            return found.map(lambda record: record | {"filename": record["filename"] + mark})

    marked = Marked(
        files={split: [f"{name}{mark}" for name in names] for split, names in few_phantoms.files.items()},
        labels={f"{name}{mark}": label for name, label in few_phantoms.labels.items()},
    )
    result = evaluate(system, marked, "test", tmp_path)
    assert result["n"] == 8
    assert f"{first}\\u200f" in (tmp_path / "predictions.csv").read_text()
    assert (tmp_path / "report.html").read_text().count("data:image/jpeg") == round(8 * (1 - result["accuracy"]))


def test_images_that_chose_are_counted_under_any_name(copies, knowing, tmp_path):
    result = evaluate(knowing, copies, "validation", tmp_path)
    assert (result["n"], result["chosen_on"], result["split_notes"]) == (8, 8, [])


def test_all_that_did_not_train_is_chosen_by_pixels_and_says_what_is_left_out(few_phantoms, copies, knowing, tmp_path):
    result = evaluate(knowing, copies, "all", tmp_path)
    assert (result["n"], result["chosen_on"]) == (16, 8)
    name = few_phantoms.files["train"][0]
    assert result["split_notes"][1].startswith("16 images trained a member under another name and did not judge it: ")
    assert f"own-lab/{name} = {name}, " in result["split_notes"][1]


def test_own_images_of_which_none_trained_are_all_judged_by_default(few_phantoms, copies, tmp_path):
    stranger = System(Provenance.of({"other.tif": "f" * 64}, ["other.tif"]))
    result = evaluate(stranger, copies, None, tmp_path)
    assert (result["split"], result["n"]) == ("all", 32)
    assert evaluate(stranger, few_phantoms, None, tmp_path)["split"] == "test"


def test_own_images_of_which_some_trained_are_judged_by_those_held_out(copies, knowing, tmp_path):
    assert evaluate(knowing, copies, None, tmp_path)["split"] == "test"


def test_own_images_that_share_no_more_than_names_with_those_that_trained_are_all_judged(copies, tmp_path):
    trained = Provenance.of(dict.fromkeys(copies.labels, "f" * 64), copies.labels)
    result = evaluate(System(trained), copies, None, tmp_path)
    assert (result["split"], result["n"]) == ("all", 32)
    assert "under the name of an image that trained: 32 images" in " ".join(result["split_notes"])


@pytest.fixture
def patients_of_two_labs(copies, tmp_path, monkeypatch):
    """Two prepared sets that name the same patients: the copies', and one whose image trained."""
    theirs = [Record("own-other/1.png", "benign", copies.groups[copies.files["validation"][0]], "own-other")]
    ours = [Record(name, label, copies.groups[name], "own-lab") for name, label in copies.labels.items()]
    for records in (theirs, ours):
        write_set(tmp_path / "sets", records[0].source, records)
    monkeypatch.setattr(few.FewPhantoms, "data_dir", tmp_path / "sets")
    return Provenance.of({"own-other/1.png": "f" * 64}, ["own-other/1.png"])


def test_patients_whom_another_set_that_trained_names_are_noted(copies, patients_of_two_labs, tmp_path, caplog):
    said = "Other sets that trained have 1 name of patients, such as "
    notes = evaluate(System(patients_of_two_labs), copies, None, tmp_path / "out")["split_notes"]
    assert sum(note.startswith(said) for note in notes) == 1
    start = Start("x", parent=SimpleNamespace(provenance=patients_of_two_labs, folder="runs/theirs"))
    job(tmp_path / "run", start=start, data=copies).check_validation()
    assert said in caplog.text


def test_a_system_that_knows_names_alone_says_that_copies_are_not_seen(few_phantoms, copies, system, tmp_path):
    sentence = "Of 16 images that trained a member only the name is known"
    assert sentence in evaluate(system, copies, None, tmp_path)["split_notes"][-1]
    assert evaluate(system, few_phantoms, None, tmp_path)["split_notes"] == []


def test_split_all_of_a_system_that_does_not_say_what_trained_it_is_refused(few_phantoms, system, tmp_path):
    system.provenance = Provenance()
    refused(system, few_phantoms, tmp_path / "out", "does not say which images trained it", split="all")


def test_a_split_with_a_class_absent_is_judged_and_says_what_it_cannot_tell(few_phantoms, system, tmp_path):
    there = [name for name in few_phantoms.files["test"] if few_phantoms.labels[name] != "insitu"]
    result = evaluate(system, replace(few_phantoms, files={**few_phantoms.files, "test": there}), "test", tmp_path)
    assert result["absent"] == ["insitu"]
    assert result["sensitivity"]["insitu"] is None
    assert "insitu" in result["why"]["sensitivity"]
    assert verify_result(tmp_path).differences == []


def test_one_image_is_judged(few_phantoms, system, tmp_path):
    files = {**few_phantoms.files, "test": few_phantoms.files["test"][:1]}
    result = evaluate(system, replace(few_phantoms, files=files), "test", tmp_path)
    assert (result["n"], result["groups"]) == (1, 1)
    assert verify_result(tmp_path).differences == []


class Calibrated(System):
    """Says where it is unsure, and which classes cannot be ruled out."""

    def with_uncalibrated(self, images):
        answers, count = self.images(images), len(images)
        answers |= {f"{node}_uncalibrated": answers[node] * 0 + 0.5 for node in NODES}
        return answers | {
            "unsure": np.arange(count) % 2 == 0, "set": np.ones((count, 4), bool), "spread": np.full(count, 0.1)
        }  # fmt: skip


def test_what_a_calibrated_system_says_of_its_doubt_is_judged(few_phantoms, system, tmp_path):
    levels = SimpleNamespace(levels={"0.8": 0.6, "0.9": 0.05})
    calibrated = Calibrated(system.provenance, views=8, digest="d" * 64, calibration=levels)
    result = evaluate(calibrated, few_phantoms, None, tmp_path)
    assert result["unsure"]["n_unsure"] == 4
    assert result["sets"]["0.9"]["covered"] == 1
    assert (result["sets"]["0.8"]["mean_size"], result["sets"]["0.8"]["covered"]) == (1, 0.25)
    assert result["uncalibrated"]["system"]["brier"] == pytest.approx(0.75)
    assert (result["views"], result["model_digest"]) == (8, "d" * 64)
    rows = read_predictions(tmp_path / "predictions.csv").rows
    assert rows[0]["set"] == list(CLASSES)
    assert rows[0]["set.0.8"] == ["benign"]
    assert rows[0]["spread"] == 0.1
    assert verify_result(tmp_path).differences == []


def test_a_tree_that_was_not_calibrated_has_nothing_before_it(few_phantoms, system, tmp_path):
    class Plain(System):
        def with_uncalibrated(self, images):
            answers = self.images(images)
            return answers | {f"{node}_uncalibrated": answers[node] for node in NODES}

    result = evaluate(Plain(system.provenance), few_phantoms, None, tmp_path)
    assert result["uncalibrated"] is None


def test_answers_that_no_tree_gives_are_refused(few_phantoms, system, tmp_path):
    system.label = "invasive"
    refused(system, few_phantoms, tmp_path / "out", "answers that no tree of this project gives: .*likeliest class")
