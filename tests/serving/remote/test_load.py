"""A short form of ``python -m benchmarks.load``: a small tree, a few clients, a stop under load."""

import collections
import time
from urllib.parse import urlsplit

import numpy as np
import pytest

from bach_keras.serving.remote.server import Server
from benchmarks import load, load_server
from benchmarks.load_clients import BUSY, LOST, RIGHT, WRONG, Outcome, Result, Target
from benchmarks.load_hostile import ROLES
from benchmarks.load_known import Album, Known, album, compared

KINDS = {"REST", "gRPC", "probe"}


def wait_for_answers(under: load.Load) -> None:
    """Wait until some probes were answered, and some requests for images over both protocols."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        right = [result for result in list(under.results) if result.outcome == RIGHT]
        answered = collections.Counter(each.kind for each in right if each.images or each.kind == "probe")
        if all(answered[kind] >= 3 for kind in KINDS):
            return
        time.sleep(0.05)
    pytest.fail(f"after two minutes only these were answered: {answered}")


def test_under_load_nothing_is_lost_or_mixed_up_and_a_stop_answers_what_was_accepted(export, capsys):
    known = album(export, 6, tolerance=1e-5, tried=30)
    assert len(known.images) > 2
    with Server(export) as server:
        rest = urlsplit(server.rest_url)
        target = Target((rest.hostname, rest.port), urlsplit(server.grpc_url).netloc, known, slow=0.5)
        with load.Load(target, 8) as under:
            wait_for_answers(under)
            results, when = list(under.results), time.monotonic()
            server.stop()
    seconds = when - under.began
    assert load.show(results, target, seconds), capsys.readouterr().out
    # On a busy machine a request may be on its way for as long as the load lasts.
    assert load.lost_in_stop(under.results, when, margin=seconds) == []
    asked = [result for result in results if result.outcome == RIGHT]
    assert {result.kind for result in asked} >= KINDS
    assert max(result.difference for result in asked) < 1e-5


def test_a_load_that_no_image_was_answered_in_is_not_well(capsys):
    target = Target(("", 0), "", Album([], 1e-3, 1.0))
    assert not load.show([Result("REST", "known images", 0, 1, RIGHT, images=3)], target, 1)
    assert "no image was answered over gRPC" in capsys.readouterr().out


def _answer(**numbers):
    return {"label": "benign", "ok": True, "probabilities": np.float32([0, 1, 0, 0])} | numbers


def test_an_answer_is_compared_with_that_of_its_image():
    assert compared(_answer(), _answer(probabilities=[0, 0.75, 0.25, 0])) == 0.25
    assert compared(_answer(), _answer(label="normal")) == np.inf
    assert compared(_answer(), _answer(ok=False)) == np.inf
    assert compared(_answer(), {"label": "benign", "ok": True}) == np.inf


def test_the_answer_of_another_image_is_wrong_and_says_whose_it_is():
    answers = [_answer(), _answer(probabilities=np.float32([1, 0, 0, 0]))]
    known = Album([Known(b"", {"routed": each}) for each in answers], 1e-3, 1.0)
    client = load.Client(Target(("", 0), "", known), {}, 0, [], None)
    assert client.judge("routed", [0, 1], answers).outcome == RIGHT
    assert client.judge("routed", [1, 0], answers) == Outcome(WRONG, "image 1 has the answer of 0")
    assert client.judge("routed", [0], answers).outcome == WRONG
    assert client.judge("routed", [None], answers[:1]).outcome == WRONG


@pytest.mark.parametrize(
    ("began", "outcome", "is_cost"),
    [(5, LOST, True), (5, BUSY, True), (9.5, BUSY, False), (9.5, LOST, True), (11, LOST, False), (11, WRONG, True)],
)
def test_what_a_stop_may_cost(began, outcome, is_cost):
    result = Result("REST", "known images", began, 12, outcome)
    assert load.lost_in_stop([result], when=10) == [result] * is_cost


def test_a_slope_has_an_interval():
    noise = np.random.default_rng(0).normal(0, 1, 600)
    flat = [load_server.Sample(second, 500 + noise[second], 1, 1) for second in range(600)]
    _, low, high = load_server.slope(flat)
    assert low < 0 < high
    assert load.of_memory(flat, 600)[1]
    leak = [load_server.Sample(s.when, s.megabytes + s.when / 30, 1, 1) for s in flat]  # 2 MB a minute
    _, low, high = load_server.slope(leak)
    assert low < 2 < high < 3
    sentence, is_flat = load.of_memory(leak, 600)
    assert (is_flat, "GROWS" in sentence) == (False, True)


def test_half_of_the_clients_ask_for_known_images_and_the_first_eight_have_every_role():
    kinds = [kind for role in ROLES for kind in role]
    assert kinds.count("REST") == kinds.count("gRPC") == 5
    assert set(kinds[:8]) == set(kinds)
