"""A sketch is that of the tissue, however the image lies, and any image has one."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets import phantom
from datasets.duplicates.sketch import Sketch

TISSUE = phantom.draw("benign", 410, 0)


def test_the_mirrored_sketch_is_that_of_the_mirrored_image():
    mirrored, drawn = Sketch.of(TISSUE).mirrored, Sketch.of(TISSUE[:, ::-1])
    apart = np.abs(mirrored.places[:, None] - drawn.places) + np.abs(mirrored.arrows[:, None] - drawn.arrows)
    nearest = apart.argmin(axis=1)
    same = apart.min(axis=1) < 1e-3
    assert same.mean() > 0.9
    differing = np.bitwise_count(mirrored.codes[same] ^ drawn.codes[nearest[same]]).sum(axis=1)
    assert np.quantile(differing, 0.9) <= 2
    assert np.abs(mirrored.picture.astype(int) - drawn.picture).max() <= 1


def test_a_larger_copy_has_its_keypoints_at_the_same_places():
    own, large = Sketch.of(TISSUE), Sketch.of(np.asarray(Image.fromarray(TISSUE).resize((1152, 864))))
    assert (large.unit, own.unit) == (864, 288)
    apart = np.abs(own.places[:100, None] - large.places).min(axis=1)
    assert np.median(apart) < 0.002


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (5, 3), (40, 3000), (288, 384)])
@pytest.mark.parametrize("value", [0, 250])
def test_an_image_without_detail_has_no_keypoints(shape, value):
    sketch = Sketch.of(np.full((*shape, 3), value, np.uint8))
    assert (sketch.height, sketch.width) == shape
    assert (len(sketch.places), sketch.codes.shape, sketch.mirrored.codes.shape) == (0, (0, 2), (0, 2))
    assert max(sketch.picture.shape) <= 6 * 144


def test_a_sketch_is_small():
    assert len(pickle.dumps(Sketch.of(TISSUE), protocol=pickle.HIGHEST_PROTOCOL)) < 45_000


def test_importing_brings_no_opencv():
    code = "import sys, datasets.duplicates.copies, datasets.audit; sys.exit('cv2' in sys.modules)"
    root = Path(__file__).parents[3]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
