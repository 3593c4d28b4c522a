import pytest

from datasets.slides.slide import Level, Window, choose_level, window_of

LEVELS = tuple(Level(round(10_000 / downsample), 9000, downsample) for downsample in (1, 4.003, 16, 32))


@pytest.mark.parametrize(
    ("downsample", "expected"), [(0.5, 0), (1, 0), (3.9, 0), (4, 1), (5.33, 1), (15.5, 1), (16, 2), (31, 2), (1000, 3)]
)
def test_the_level_is_the_nearest_one_that_is_not_coarser(downsample, expected):
    assert choose_level(LEVELS, downsample) == expected


def test_levels_may_stand_in_any_order():
    assert choose_level((LEVELS[0], LEVELS[3], LEVELS[1]), 40) == 1


def test_windows_of_one_size_are_equally_large_wherever_they_lie():
    sizes = {window_of(LEVELS[1], Window(x, x // 3, 1537, 1))[2:] for x in range(-50, 5000, 7)}
    assert sizes == {(384, 1)}
