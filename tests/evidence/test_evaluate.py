import json

import numpy as np
import pytest

from bach_keras.evidence import evaluate as evidence
from bach_keras.evidence.report import write_report
from bach_keras.hierarchy import Hierarchy


def test_a_leak_is_refused_and_named(few_phantoms):
    names = few_phantoms.files["train"]
    with pytest.raises(ValueError, match=f"1 of these .*{names[0]}"):
        evidence.check_leaks(frozenset(names[:1]), names)
    evidence.check_leaks(frozenset(names), few_phantoms.files["test"])


def test_a_system_is_scored_and_reported(few_phantoms, members, tree_of_runs, tmp_path):
    names = few_phantoms.files["test"]
    trained = frozenset().union(*(member.trained_on for member in members))
    system = Hierarchy(members)
    result, rows = evidence.evaluate(system, few_phantoms.images(names), names, trained, frozenset(names[:3]), print)
    assert result["n"] == sum(map(sum, result["confusion_matrix"])) == 8
    assert result["accuracy"] == sum(row["truth"] == row["label"] for row in rows) / 8
    assert {node: score["n"] for node, score in result["nodes"].items()} == {"carci": 8, "norbe": 4, "invis": 4}
    assert result["chosen_on"] == 3
    with pytest.raises(ValueError, match="trained a member"):
        evidence.evaluate(system, few_phantoms.images(names), names, frozenset(names), frozenset(), print)
    result |= {"config": "phantom", "protocol": "patient", "split": "test", "split_notes": ["It <flatters>."]}
    write_report(tmp_path / "report.html", result, list(tree_of_runs.values()))
    page = (tmp_path / "report.html").read_text()
    plots = {"Confusion matrix": 1, "Training curves": 3, "Learning rate range test": 1 + 2 + 2}
    assert {name: page.count(f'alt="{name}') for name in plots} == plots
    assert "3 of these images also chose" in page
    assert "<p class=note>It &lt;flatters&gt;.</p>" in page
    json.dumps(result)


def test_an_answer_of_nan_is_not_scored_as_the_first_class(few_phantoms):
    class Spoiled:
        def images(self, images):
            pair = np.full((len(images), 2), 0.5)
            answers = {"probabilities": np.full((len(images), 4), np.nan), "label": [b"normal"] * len(images)}
            return answers | dict.fromkeys(("carci", "norbe", "invis"), pair)

    names = few_phantoms.files["test"]
    with pytest.raises(ValueError, match=r"answers NaN or infinity for .*train its members again"):
        evidence.evaluate(Spoiled(), few_phantoms.images(names), names, frozenset(), frozenset())


def test_members_of_another_split_are_told_by_name_or_by_content():
    files = {"train": ["a", "b"], "validation": ["c"], "test": ["d"]}

    def mixed(protocols, trained_on, chosen_on):
        return evidence.mixed_splits("patient", files, protocols, frozenset(trained_on), frozenset(chosen_on))

    assert mixed({"patient"}, "ab", "c") == ""
    # Images of another config are no other split of this one.
    assert mixed({"patient", ""}, "aXY", "Z") == ""
    assert "trained under all, paper." in mixed({"paper", "patient", "all"}, "ab", "c")
    assert "another split than this one by patient" in mixed({"patient"}, "abc", "")
    assert "another split than this one by patient" in mixed({"patient"}, "a", "b")


def test_malignant_counts_for_carci_alone():
    row = {"label": "insitu", "carci": [0.1, 0.9], "norbe": [0.5, 0.5], "invis": [0.9, 0.1]}
    result = evidence.score([{**row, "truth": "malignant"}, {**row, "truth": "invasive"}])
    assert result["n"] == 1
    assert result["nodes"]["carci"]["n"] == 2
    assert result["nodes"]["invis"]["n"] == 1
    with pytest.raises(ValueError, match="None of these images"):
        evidence.score([{**row, "truth": "malignant"}])
