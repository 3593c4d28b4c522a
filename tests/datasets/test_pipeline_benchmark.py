"""What benchmarks/pipeline.py counts and times."""

import itertools

import pytest
import tensorflow as tf

from bach_keras.recipe import Recipe
from bach_keras.training.alone import alone
from benchmarks import pipeline
from datasets.bach_bisque.prepare import prepare_dataset
from datasets.bach_bisque.prepared import Prepared
from datasets.errors import UserError


@pytest.mark.parametrize("pairs", [False, True])
def test_a_short_last_batch_counts_for_what_it_holds(pairs):
    images = tf.zeros((14, 2, 2, 3))
    data = tf.data.Dataset.from_tensor_slices((images, tf.range(14)) if pairs else images).batch(10).repeat()
    run = pipeline._endless(data)
    assert [run(1), run(1), run(4)] == [10, 4, 28]


def test_the_rate_is_of_the_images_that_came(monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(pipeline.time, "perf_counter", lambda: next(clock))
    sides = {"ours": lambda count: 7 * count, "a peer": lambda count: 10 * count}
    assert pipeline.measure(sides, 3, 2) == {"ours": [21, 21], "a peer": [30, 30]}


def test_a_preparation_is_timed(bisque_root, tiny_configs):
    count, seconds = pipeline.preparation("bisque", bisque_root)
    assert count == 6
    assert seconds > 0
    with pytest.raises(UserError, match="leave the source out"):
        pipeline.preparation("phantom", bisque_root)


def test_every_stage_from_the_records_counts_the_images(tmp_path, four_phantoms):
    prepare_dataset("phantom", data_dir=tmp_path)
    stages = pipeline.record_stages("phantom", tmp_path, Prepared("phantom", tmp_path).load(), Recipe(image_size=32))
    assert {name: run() for name, run in stages.items()} == dict.fromkeys(stages, 4)


def test_the_memory_of_a_cache_is_measured():
    # In a process of its own, as this one's heap has room that other tests left.
    filled, trained = alone(pipeline.cache_memory, 100, (128, 2048, 3), Recipe(image_size=128, batch_size=2))
    # The images take 79 MB; what the heap had free before and keeps after is a part of that.
    assert 40 < filled < 160
    assert trained > 40
