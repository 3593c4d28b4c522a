"""The page's model, and images to drop."""

import numpy as np
import pytest
from PIL import Image

from bach_keras.serving.app.answers import Answers
from bach_keras.serving.exported import Export
from datasets import phantom


@pytest.fixture(scope="session")
def export(calibrated):
    return Export(calibrated)


@pytest.fixture(scope="session")
def answers(export):
    return Answers(export)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Images that are answered, and files that are not."""
    place = tmp_path_factory.mktemp("dropped")
    for number, label in enumerate(("normal", "benign", "insitu", "invasive")):
        image = Image.fromarray(phantom.draw(label, 930 + number, 0))
        image.save(place / f"{label}.{'tif' if label == 'insitu' else 'png'}")
    (place / "text.png").write_text("this is text")
    (place / "archive.zip").write_bytes(b"PK\x03\x04" + bytes(40))
    (place / "cut.png").write_bytes((place / "benign.png").read_bytes()[:900])
    for name, size, grey in (("dot", (1, 1), 90), ("white", (64, 64), 255), ("black", (64, 64), 0)):
        Image.new("RGB", size, (grey,) * 3).save(place / f"{name}.png")
    Image.fromarray(np.full((8, 400, 3), 200, np.uint8)).save(place / "long.png")
    return place


@pytest.fixture(scope="session")
def answered(answers, folder):
    """Return name -> answer, of every file in the folder."""
    files = [(path, path.name) for path in sorted(folder.iterdir())]
    return {answer.name: answer for batch in answers.answer(files) for answer in batch}
