from itertools import pairwise

import numpy as np
import pytest

from bach_keras.serving.slide.grid import grid, starts, step_of


@pytest.mark.parametrize("length", [100, 101, 150, 199, 200, 1000, 1033])
@pytest.mark.parametrize("overlap", [0, 0.25, 0.5, 0.9])
def test_tiles_cover_a_slide_and_lie_in_it(length, overlap):
    step = step_of(100, overlap)
    seen = np.zeros(length, bool)
    found = starts(length, 100, step)
    for start in found:
        seen[start : start + 100] = True
    assert seen.all()
    assert found[0] == 0
    assert found[-1] == length - 100
    assert all(0 < after - before <= step for before, after in pairwise(found))


@pytest.mark.parametrize("overlap", [-0.1, 0.91, 1, float("nan")])
def test_an_overlap_that_cannot_be_is_refused(overlap):
    with pytest.raises(ValueError, match=r"give the share of a tile that the next one shows too, 0 to 0\.9"):
        step_of(100, overlap)


def test_more_tiles_than_memory_holds_are_refused():
    assert len(grid(50_000, 50_000, 100, 100)) == 250_000
    with pytest.raises(ValueError, match="has 250,500 tiles; at most 250,000 are taken"):
        grid(50_100, 50_000, 100, 100)
