"""An export without its network, and answers of it as bulk writes them."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from bach_keras.evidence.ranges import fit, values_of, warnings
from bach_keras.serving.answers import TREE
from bach_keras.serving.bulk.columns import as_table
from bach_keras.serving.bulk.manifest import Manifest, Shard, name_of
from bach_keras.serving.exported import digest_of
from bach_keras.tree import NODES
from datasets.labels import CLASSES

SHARD = 64


def measured(rng, count: int, shift: float = 0.0, blur: float = 0.0) -> list[dict]:
    """Return what images measure: of one kind, or with another stain or blur."""
    return [
        {
            "blur": float(rng.normal(0.5 + blur, 0.02)),
            "tissue": float(rng.uniform(0.6, 1)),
            "stain": (rng.normal(0.5 + shift, 0.05, 6)).tolist(),
            "um_per_pixel": 0.42,
            "side": 1536,
        }
        for _ in range(count)
    ]


RANGES = fit(measured(np.random.default_rng(0), 400), [f"p{place // 2}" for place in range(400)])
CARD = {
    "configs": ["phantom"], "image_size": 96, "members": [{"node": node} for node in NODES], "trained_on": ["a.png"],
    "chosen_on": [], "decoding": 2, "ranges": RANGES.in_card(),
    "calibration": {
        "levels": {"0.8": 0.5, "0.9": 0.3}, "unsure": {"share": 0.2, "threshold": 0.6}, "n": 100, "groups": 50,
        "views": 1, "config": "phantom", "protocol": "patient", "split": "validation",
    },
}  # fmt: skip


def write_export(folder: Path, without=(), **changes) -> Path:
    (folder / "assets").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"a network")
    card = {name: value for name, value in {**CARD, **changes}.items() if name not in without}
    (folder / "assets/model_card.json").write_text(json.dumps(card))
    return folder


def row(name: str, rng, found: dict | None) -> dict:
    """Return an answer for what an image measured, a ``None`` for a model without ranges; ``{}`` is an error."""
    where = {"path": name, "digest": hashlib.sha256(name.encode()).hexdigest(), "bytes": 1, "modified_ns": 1}
    if found == {}:
        return {**where, "error": "It is not an image."}
    shares = rng.dirichlet([0.2] * 4)
    return {
        **where, "width": 2048, "height": 1536, "label": CLASSES[shares.argmax()],
        "probabilities": dict(zip(CLASSES, shares.tolist(), strict=True)), "nodes": dict.fromkeys(NODES),
        "unsure": bool(shares.max() < 0.6), "set": [CLASSES[shares.argmax()]], "spread": None, "distance": None,
        "um_per_pixel": found and {"value": found["um_per_pixel"], "source": "tiff"}, "icc": None,
        "warnings": found and warnings(
            found | {"scale": {"value": found["um_per_pixel"], "source": "tiff"}}, RANGES),
        "measured": found and values_of(found, RANGES),
    }  # fmt: skip


def write_answers(folder: Path, model: Path, found, names=None, **options) -> Path:
    """Write answers for what images measured, in files of ``SHARD`` rows."""
    folder.mkdir()
    rng, digest = np.random.default_rng(1), digest_of(model)
    names = names or [f"/images/{place}.tif" for place in range(len(found))]
    rows = [row(name, rng, each) for name, each in zip(names, found, strict=True)]
    shards = {}
    for number, start in enumerate(range(0, len(rows), SHARD)):
        part, name = rows[start : start + SHARD], name_of(number)
        pq.write_table(as_table(part, TREE, digest), folder / name)
        sha256 = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        shards[name] = Shard(name, sha256, len(part), sum("error" in each for each in part))
    given = {"routing": "soft", "views": 1, "batch": 8, "icc": "note", "um_per_pixel": None, **options}
    source = {"source": "/images", "sha256": "0" * 64, "count": max(1, len(rows)), "folder": "/images", "doubles": 0}
    Manifest({"folder": str(model), "digest": digest}, given, source, SHARD, shards).write(folder)
    return folder


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return write_export(tmp_path_factory.mktemp("model") / "1")


@pytest.fixture(scope="session")
def alike(model, tmp_path_factory):
    """Answers for 150 images of the training images' kind, 3 of them errors."""
    found = measured(np.random.default_rng(5), 150)
    found[7] = found[80] = found[149] = {}
    return write_answers(tmp_path_factory.mktemp("alike") / "answers", model, found)
