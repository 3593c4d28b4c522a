from bach_keras.evidence.results import write_results
from bach_keras.evidence.seeds import seed_rows


def run(seed, accuracy, name="bisque-carci", **changes):
    return {
        "run": f"out/patient-seed{seed}/{name}", "node": "carci", "config": "bisque", "protocol": "patient",
        "init": "imagenet", "seed": seed, "accuracy": accuracy, "accuracy_ci95": [0.25, 0.75], "n": 14, "groups": 3,
        "effective_n": 2.5, "best_epoch": 3, "epochs": 4, "seconds": 60, **changes,
    }  # fmt: skip


def test_each_seed_has_its_interval_and_all_have_a_mean():
    rows = seed_rows([run(0, 0.5), run(1, 0.75), run(0, 0.6, "other")])
    assert [row[:3] for row in rows] == [
        ["patient", "bisque-carci", "0"], ["patient", "bisque-carci", "1"], ["patient", "bisque-carci", "mean"],
        ["patient", "other", "0"],
    ]  # fmt: skip
    assert rows[0][3].startswith("0.500 (95 % interval 0.250 to 0.750, n = 14 images of 3 patients, effective n 2.5")
    assert rows[2][3] == "0.625, standard deviation 0.177 over 2 seeds"


def test_a_run_that_kept_no_images_has_no_row():
    whole = run(0, 0.5)
    del whole["accuracy"]
    assert seed_rows([whole]) == []


def test_the_page_of_bisque_shows_each_seed_and_their_mean(tmp_path):
    results = {"config": "bisque", "trees": [], "runs": [run(0, 0.5), run(1, 0.75)]}
    write_results(tmp_path / "results.html", results)
    page = (tmp_path / "results.html").read_text()
    assert page.count("95 % interval 0.250 to 0.750, n = 14 images of 3 patients") == 4
    assert "0.625, standard deviation 0.177 over 2 seeds" in page


def test_every_seed_of_a_tree_is_shown_with_its_interval(tmp_path):
    def tree(seed, accuracy):
        score = run(seed, accuracy) | {
            "split": "test", "split_notes": [], "chosen_on": 0, "confusion_matrix": [[1] * 4] * 4, "nodes": {},
        }  # fmt: skip
        return {"row": "init", "protocol": "patient", "seed": seed, "score": score}

    trees = [tree(0, 0.5), tree(1, 0.75)]
    write_results(tmp_path / "results.html", {"config": "bach", "trees": trees, "runs": [run(0, 0.5), run(1, 0.75)]})
    page = (tmp_path / "results.html").read_text()
    for seed, accuracy in enumerate(("0.500", "0.750")):
        assert f"init, seed {seed}, test images: {accuracy} (95 % interval 0.250 to 0.750, n = 14 images of 3" in page
