import pytest

from bach_keras.serving.answers import Outputs
from bach_keras.serving.bulk import bulk
from bach_keras.serving.bulk.plan import Answering, Looking, Machines
from tests.serving.bulk import fake_engine


@pytest.fixture
def job(tmp_path):
    """Return a function that makes a job of a list of names, answered in batches of 4 and shards of 8."""

    def made(names, **others):
        source = tmp_path / "list.txt"
        source.write_text("".join(f"{name}\n" for name in names))
        answering = Answering("model", "ab" * 32, None, "soft", 4)
        values = {
            "source": str(source), "out": tmp_path / "out", "answering": answering,
            "looking": Looking(8, 1, None, 10.0), "machines": Machines(), "shard_size": 8,
        }  # fmt: skip
        return bulk.Job(**values | others)

    return made


@pytest.fixture
def run(monkeypatch):
    """Return ``run_bulk`` with a stand-in for Ray; ``fault`` is what goes wrong there."""

    def ran(job, fault=""):
        monkeypatch.setattr(bulk, "serve", fake_engine.serve)
        monkeypatch.setenv("FAKE", fault)
        return bulk.run_bulk(job, Outputs())

    return ran
