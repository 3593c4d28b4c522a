"""What the client is tried on: a server, images, and a card as a server gives it."""

import pytest
from PIL import Image

from bach_keras.serving.remote.server import Server
from datasets import phantom
from datasets.labels import CLASSES

# What is read of a card, and no more.
SAID = {
    "configs": ["bach"],
    "image_size": 32,
    "members": [{"node": "carci"}, {"node": "norbe"}, {"node": "invis"}],
    "trained_on": ["a.tif"],
    "chosen_on": ["b.tif"],
}


@pytest.fixture(scope="module")
def server(export):
    with Server(export) as started:
        yield started


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files of several kinds and sizes, more than go into one request, one of them broken."""
    folder = tmp_path_factory.mktemp("images")
    for number, suffix in enumerate(("png", "tif", "jpg", "bmp", "png", "tif", "tif", "tif", "png", "png")):
        pixels = phantom.draw(CLASSES[number % 4], 905, number)[number:, ::2]
        Image.fromarray(pixels).save(folder / f"{number}.{suffix}")
    (folder / "5.tif").write_bytes((folder / "5.tif").read_bytes()[:500])
    return folder
