"""The model that a command asks: an export, or what a server serves."""

from pathlib import Path

from datasets.errors import UserError


def check_one(model: Path | None, server: str | None) -> None:
    """Refuse both of --model and --server, and neither."""
    if (model is None) == (server is None):
        raise UserError("Name one of --model EXPORT and --server URL.")


def open_model(model: Path | None, server: str | None, **how):
    """Return an ``Export``, or the ``Remote`` of a server; ``how`` are what only that takes."""
    if server is None:
        from bach_keras.serving.exported import Export

        return Export(model)
    from bach_keras.serving.remote.client import Remote

    return Remote(server, **how)
