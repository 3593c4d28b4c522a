import pytest
from PIL import Image

from bach_keras.evidence.curves import curves_figure
from bach_keras.run_folder import Run
from bach_keras.run_place import share_run


def history(*losses, **more):
    """Return the rows of a history.csv, which holds text."""
    return [
        {"epoch": str(number), "loss": str(loss), "accuracy": "0.5", **more} for number, loss in enumerate(losses, 1)
    ]


@pytest.mark.parametrize(
    ("rows", "scale"),
    [
        (history(0.69, 0.5, 0.3), "linear"),
        (history(0.69, 0.0689), "log"),
        (history(0.69, 0.0691), "linear"),
        (history(0.7, 0.6, val_loss="9.1"), "log"),  # the two curves share the axis
        (history(0.7, 0.6, val_loss="nan"), "linear"),
        (history(0.7, "inf"), "linear"),
        (history(0.7, 0.0), "linear"),
        (history(0.7, 1e-3, 0.0), "log"),
        (history(0.0), "linear"),
    ],
)
def test_the_axis_is_logarithmic_where_the_loss_spans_a_decade(rows, scale):
    loss, accuracy = curves_figure(rows).axes
    assert loss.get_yscale() == scale
    assert ("log axis" in loss.get_ylabel()) == (scale == "log")
    assert accuracy.get_yscale() == "linear"


def test_training_and_validation_are_drawn_by_epoch_and_the_best_is_marked():
    loss, accuracy = curves_figure(history(0.7, 0.5, val_loss="0.6", val_accuracy="0.4"), best_epoch=2).axes
    for axes, values in ((loss, [[0.7, 0.5], [0.6, 0.6]]), (accuracy, [[0.5, 0.5], [0.4, 0.4]])):
        lines = axes.get_lines()
        assert [line.get_label() for line in lines] == ["training", "validation", "best epoch"]
        assert [list(line.get_ydata()) for line in lines[:2]] == values
        assert {tuple(line.get_xdata()) for line in lines} == {(1, 2), (2, 2)}


def test_a_run_without_validation_has_one_curve():
    assert [len(axes.get_lines()) for axes in curves_figure(history(0.7)).axes] == [1, 1]


def test_a_finished_run_has_its_curves_and_a_run_that_shares_its_files_too(tree_of_runs, tmp_path):
    run = Run.open(tree_of_runs["carci"])
    with Image.open(run.folder / "curves.png") as picture:
        assert picture.width > 2 * picture.height > 600
    share_run(run.folder, tmp_path / "shared", {"started_from": "x"}, overwrite=False)
    assert (tmp_path / "shared" / "curves.png").read_bytes() == (run.folder / "curves.png").read_bytes()
