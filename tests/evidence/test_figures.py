import math
import re

import pytest

from bach_keras.evidence import figures
from bach_keras.evidence.plot import WIDTH, Axis, Plot
from tests.evidence import an_evaluation


@pytest.mark.parametrize(
    ("values", "log", "ticks"),
    [
        ([0, 1], False, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ([0.71, 0.93], False, ["0.70", "0.75", "0.80", "0.85", "0.90", "0.95"]),
        ([0, 48], False, ["0", "10", "20", "30", "40", "50"]),
        ([3, 3], False, ["3.0", "3.1", "3.2", "3.3", "3.4", "3.5"]),
        ([1e-5, 1], True, ["10⁻⁵", "10⁻⁴", "10⁻³", "10⁻²", "10⁻¹", "10⁰"]),
        ([0.02, 0.8], True, ["0.02", "0.05", "0.1", "0.2", "0.5"]),
    ],
)
def test_an_axis_is_marked_at_round_numbers(values, log, ticks):
    assert [text for _, text in Axis.around("", values, log=log).ticks()] == ticks


@pytest.mark.parametrize("values", [[1e-9, 2e-9], [0, 1e12], [-5, 5], [1, 1 + 1e-6]])
def test_an_axis_has_a_few_marks_whatever_it_shows(values):
    axis = Axis.around("", values)
    assert 2 <= len(axis.ticks()) <= 10
    assert axis.low <= min(values)
    assert max(values) <= axis.high


def test_what_lies_beyond_an_axis_is_put_at_its_end():
    assert [Axis("", 0, 1).share(value) for value in (-5, 0.25, 7)] == [0, 0.25, 1]
    assert Axis("", 0.1, 10, log=True).share(1) == pytest.approx(0.5)
    assert Axis("", 0.1, 10, log=True).share(-1) == 0


def test_a_plot_draws_nothing_outside_itself():
    plot = Plot(Axis("x", 0, 1), Axis("y", 0, 1))
    plot.line([(-1, 2), (2, -1)], "one")
    numbers = [float(number) for number in re.findall(r"[\d.]+", re.findall(r'points="(.*?)"', plot.svg(""))[0])]
    assert all(0 <= number <= WIDTH for number in numbers)


def test_a_plot_takes_its_colours_from_the_page():
    plot = Plot(Axis("x", 0, 1), Axis("y", 0, 1))
    plot.dots([(0.5, 0.5)], "one")
    assert re.findall(r"fill=|stroke=|#[0-9a-f]{3}|rgb", plot.svg("A dot")) == []
    assert 'role="img" aria-label="A dot"' in plot.svg("A dot")


def test_titles_never_become_markup():
    plot = Plot(Axis("<b>", 0, 1), Axis("<b>", 0, 1))
    assert "<b>" not in plot.svg("<b>", {0.5: "<b>"})


def test_a_confusion_matrix_counts_what_is_wrong_and_names_each_row_and_column():
    made = figures.confusion([[3, 1], [0, 2]], ("normal", "benign"), "NorBe")
    assert "1 of 6 images wrong" in made
    assert made.count('<th scope="row">') == 2
    assert '<td class=right style="--share:0.750">3</td><td style="--share:0.250">1</td>' in made


def test_a_class_without_images_is_a_row_of_zeros():
    assert made_without_nan(figures.confusion([[0, 0], [0, 2]], ("normal", "benign"), "NorBe"))


def made_without_nan(made):
    return made and "nan" not in made and "inf" not in made.replace("insitu", "")


BINS = [{"low": 0.8, "high": 0.9, "n": 40, "confidence": 0.85, "accuracy": 0.8}]


def test_a_reliability_diagram_shows_both_before_and_after():
    after, before = ({"reliability": BINS, "calibration_error": error} for error in (0.02, 0.09))
    both = figures.reliability(after, before, "Carci")
    assert "Before calibration: calibration error 0.090; after calibration: calibration error 0.020." in both
    alone = figures.reliability(after, None, "Carci")
    assert "As it answers: calibration error 0.020." in alone
    assert both.count("<circle") - alone.count("<circle") == 2  # a dot, and its like in the legend


def test_no_bins_make_no_reliability_diagram():
    assert figures.reliability({"reliability": None}, None, "Carci") == ""


def test_coverage_marks_where_the_unsure_answers_are_left_out():
    points = [{"coverage": 0.5, "accuracy": 0.9, "n": 5}, {"coverage": 1.0, "accuracy": 0.7, "n": 10}]
    marked = figures.coverage(points, {"share": 0.2, "accuracy_of_sure": 0.8})
    assert "without the unsure ones" in marked
    assert "without the unsure ones" not in figures.coverage(points, {"share": 1.0, "accuracy_of_sure": None})
    assert "0.700 when every image is answered, 0.900 for the most confident 50 %." in marked


def history(**columns):
    return [{"epoch": str(n), **row} for n, row in enumerate(map(dict, zip(*columns_of(columns), strict=True)), 1)]


def columns_of(columns):
    return [[(name, str(value)) for value in values] for name, values in columns.items()]


def test_a_loss_of_decades_has_a_logarithmic_axis():
    loss, _ = figures.curves(history(loss=[1, 0.1, 0.01], accuracy=[0, 0.5, 1]), 3)
    assert "loss, logarithmic" in loss
    loss, _ = figures.curves(history(loss=[1, 0.05, 0], accuracy=[0, 0.5, 1]), 3)
    assert "loss, logarithmic" in loss
    loss, _ = figures.curves(history(loss=[1, 0.5, 0.2], accuracy=[0, 0.5, 1]), 3)
    assert "logarithmic" not in loss


def test_epochs_that_are_not_finite_are_left_out_of_the_curve():
    loss, accuracy = figures.curves(history(loss=[1, math.nan, math.inf], accuracy=[math.nan] * 3), None)
    assert made_without_nan(loss)
    assert "No epoch has a finite accuracy." in accuracy


def test_a_run_of_one_epoch_has_curves():
    assert all(map(made_without_nan, figures.curves(history(loss=[0.5], accuracy=[0.5], val_loss=[0.6]), 1)))


def test_a_range_test_says_where_it_diverges_and_whether_that_is_a_guess():
    clear = figures.range_test(an_evaluation.range_test("middle", 0.1))
    guess = figures.range_test(an_evaluation.range_test("head", 0.1))
    assert "The loss starts to diverge at 0.1; suggested: 0.01." in clear
    assert ("this is a guess" in guess) > ("this is a guess" in clear)


@pytest.mark.parametrize("last", [math.nan, math.inf, 1e30])
def test_a_loss_that_diverged_does_not_flatten_the_picture(last):
    entry = an_evaluation.range_test("head", 0.1) | {"probe": None}
    whole = figures.range_test(entry)
    entry["smoothed"][-1] = last
    assert "1e+" not in figures.range_test(entry)
    assert len(re.findall('class="grid"', figures.range_test(entry))) == len(re.findall('class="grid"', whole))


def test_a_range_test_is_drawn_until_it_leaves_the_picture_and_no_further():
    points = [(1.0, 1.0), (10.0, 5.0), (100.0, 1.0), (1000.0, 3.0), (10000.0, 9.0)]
    assert figures._up_to(points, 2.0) == [*points[:3], (pytest.approx(100 * 10**0.5), 2.0)]
    assert figures._up_to(points, 9.0) == points
    assert figures._up_to(points, 0.5) == points[:1]


def test_a_range_test_of_no_point_is_said_to_be_empty():
    entry = {"phase": "head", "metric": "loss", "rates": [], "values": [], "smoothed": [], "divergence": 1}
    assert "no point that can be drawn" in figures.range_test(entry | {"suggestion": 1, "clear": True})


def test_few_patients_are_all_named_and_many_are_not():
    assert "Images of each of 2 patients: 5, 1." in figures.group_sizes([5, 1])
    assert "9, 8, 7, 6, 5, 4 and so on." in figures.group_sizes([9, 8, 7, 6, 5, 4, 3])
