"""The index finds codes of which few bits differ, and does not look at all of very many that are alike."""

import numpy as np
import pytest

from datasets.duplicates import index
from datasets.duplicates.index import Index


@pytest.fixture
def codes():
    return np.random.default_rng(0).integers(0, 2**64, (4000, 2), np.uint64)


def flipped(codes, bits):
    """Return codes with some bits, at random, the other way."""
    rng, changed = np.random.default_rng(1), np.unpackbits(codes.view(np.uint8), axis=1)
    for row in changed:
        row[rng.choice(128, bits, replace=False)] ^= 1
    return np.packbits(changed, axis=1).view(np.uint64)


@pytest.mark.parametrize(("bits", "least", "most"), [(0, 1, 1), (6, 0.98, 1), (12, 0.8, 1), (40, 0, 0)])
def test_codes_are_found_by_how_few_bits_differ(codes, bits, least, most):
    asking, owners = Index(codes, np.arange(4000) // 10).matches(flipped(codes[:500], bits))
    assert least <= (owners == asking // 10).sum() / 500 <= most
    assert (owners != asking // 10).sum() <= 1


def test_each_image_counts_once_for_each_code(codes):
    asking, owners = Index(np.concatenate([codes[:100]] * 3), np.repeat([7, 7, 9], 100)).matches(codes[:100])
    assert sorted(zip(asking, owners, strict=True)) == [(code, image) for code in range(100) for image in (7, 9)]


def test_an_overfull_drawer_is_looked_at_here_and_there(codes, monkeypatch):
    monkeypatch.setattr(index, "_MOST", 50)
    same = np.repeat(codes[:1], 5000, axis=0)
    _, owners = Index(same, np.arange(5000)).matches(codes[:1])
    assert 50 <= len(owners) <= 400
    assert owners.min() < 500
    assert owners.max() > 4500


def test_nothing_is_like_nothing(codes):
    empty = np.zeros((0, 2), np.uint64)
    assert [len(part) for part in Index(empty, np.zeros(0, int)).matches(codes[:5])] == [0, 0]
    assert [len(part) for part in Index(codes, np.arange(4000)).matches(empty)] == [0, 0]
