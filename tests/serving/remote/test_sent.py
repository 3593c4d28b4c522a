"""What the client sends of an image: the square that the model sees, or all of it, with the same answers."""

import contextlib
import copy
import json

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner

from bach_keras.preprocess import View
from bach_keras.serving.images import as_png
from bach_keras.serving.predict import answer_batch, predict_files
from bach_keras.serving.remote.client import Remote
from bach_keras.serving.remote.server import Server
from cli import cli
from datasets import phantom
from datasets.images.read import read_rgb

UNTOLD = "does not say what side its model's images have, so they are sent whole"


def run(*words):
    return CliRunner().invoke(cli, [str(word) for word in words])


def of_command(rows):
    """Rows as the command prints them: it also says of the files, and of a model without ranges, what is not known."""
    unknown = dict.fromkeys(("um_per_pixel", "icc", "warnings"))
    return [row if "error" in row else row | unknown for row in rows]


def rows_of(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.parametrize("routing", ["soft", "routed"])
@pytest.mark.parametrize("transport", ["rest_url", "grpc_url"])
def test_squares_and_whole_images_get_the_answers_of_predict_to_the_bit(server, export, folder, transport, routing):
    local = of_command(predict_files(export, [folder], routing))
    words = ("predict", "--server", getattr(server, transport), "--format", "json", "--routing", routing, folder)
    for more in ((), ("--send-whole",)):
        result = run(*words, *more)
        assert result.exit_code == 1  # one file is broken
        assert rows_of(result) == local
        assert UNTOLD not in result.stderr


def sent(remote, monkeypatch):
    """Return the list to which what the client sends will be added."""
    images, call = [], remote._server.call
    monkeypatch.setattr(remote._server, "call", lambda *given: images.extend(given[2]) or call(*given))
    return images


@pytest.mark.parametrize("transport", ["rest_url", "grpc_url"])
@pytest.mark.parametrize("send_whole", [False, True])
def test_what_is_sent(server, folder, monkeypatch, transport, send_whole):
    remote = Remote(getattr(server, transport), send_whole=send_whole)
    images = sent(remote, monkeypatch)
    list(predict_files(remote, [folder]))
    whole = [read_rgb(path) for path in sorted(folder.iterdir()) if path.name != "5.tif"]
    expected = whole if send_whole else [View(32).square(image).numpy() for image in whole]
    assert images == [as_png(image) for image in expected]


def test_a_file_given_as_bytes_is_sent_as_it_is(server, monkeypatch):
    remote = Remote(server.rest_url)
    images = sent(remote, monkeypatch)
    pixels = phantom.draw("normal", 951, 0)
    from_file, from_pixels = answer_batch(remote, [as_png(pixels), pixels])
    assert images == [as_png(pixels), as_png(View(32).square(pixels).numpy())]
    assert from_file == from_pixels


class Said:
    """A signature ``card`` that says something else."""

    def __init__(self, signature, card):
        self.structured_input_signature = signature.structured_input_signature
        self._answer = {"card": tf.constant([json.dumps(card)])}

    def __call__(self, query):
        return self._answer


@pytest.fixture
def saying(export):
    """Return a context in which a server's model card was changed; ``...`` takes a field away."""

    @contextlib.contextmanager
    def serve(**changes):
        card = {name: value for name, value in (export.card | changes).items() if value is not ...}
        other = copy.copy(export)
        other.signatures = dict(export.signatures) | {"card": Said(export.signatures["card"], card)}
        with Server(other) as server:
            yield server

    return serve


@pytest.mark.parametrize("transport", ["rest_url", "grpc_url"])
def test_an_older_card_without_a_side_gets_whole_images_and_one_line_says_so(saying, export, folder, transport):
    with saying(image_size=...) as server:
        words = ("predict", "--server", getattr(server, transport), "--format", "json", folder)
        result, whole = run(*words), run(*words, "--send-whole")
    assert rows_of(result) == rows_of(whole) == of_command(predict_files(export, [folder]))
    assert result.stderr.count(UNTOLD) == 1
    assert UNTOLD not in whole.stderr


@pytest.mark.parametrize("side", ["32", 0, -32, 31, 4097, 10**9, 10**400, 32.0, True, None, [32], {"side": 32}])
def test_a_side_that_cannot_be_counts_as_none(saying, side):
    with saying(image_size=side) as server:
        remote = Remote(server.rest_url)
    assert remote.side is None
    assert remote.prepared(np.zeros((40, 50, 3), np.uint8)) == as_png(np.zeros((40, 50, 3), np.uint8))
    assert "phantom" in remote.warnings[0]
    assert UNTOLD in remote.warnings[-1]


def test_send_whole_is_about_a_server(exported, folder):
    result = run("predict", "--model", exported, "--send-whole", folder)
    assert result.exit_code == 2
    assert "--send-whole is about a server" in result.stderr


def test_a_picture_too_long_to_square_is_refused_before_it_is_sent(server):
    remote = Remote(server.rest_url)
    (row,) = answer_batch(remote, [np.zeros((1, 60, 3), np.uint8)])
    assert "at most 50 times as long as wide" in row["error"]
