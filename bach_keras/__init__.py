"""Breast histology images sorted by a tree of three ResNeXt-50 classifiers."""

import os


def load(model: str | os.PathLike, views: int | None = None):
    """Load a model that answers for images: an export's folder, or the address of a server.

    Its warnings are logged each time, above all that a model learned from synthetic images.

    The answers are those of ``predict``, to the last bit where ``TF_ONEDNN_ASSUME_FROZEN_WEIGHTS=1`` is in the
    environment before TensorFlow is imported, as ``predict`` sets it, else to about 1e-6. A program that only answers
    is faster with it; one that also trains must not set it, as TensorFlow would ignore what it learns.

        >>> from bach_keras import load
        >>> model = load("saved_models/demo/1")
        >>> rows = model.predict(["slides/a.png", "slides/b.png"])
        >>> [row["path"] for row in rows]
        ['slides/a.png', 'slides/b.png']

    Args:
        model: the folder of an export; of a folder above version folders, the highest version. Or what ``predict
            --server`` takes, such as ``http://localhost:8501``.
        views: average 1, 8 or 24 views of each image, as ``predict --views`` does; None for the model's own.

    Returns:
        A ``bach_keras.serving.model.Model``.
    """
    import datasets

    try:
        import datasets.errors
    except ModuleNotFoundError as error:
        raise ImportError(
            f"bach_keras needs its own folder datasets/, but `import datasets` gave {datasets.__file__}: put this "
            "project's folder first in PYTHONPATH, and use Hugging Face's datasets in another process."
        ) from error
    from bach_keras.serving.model import open_model  # brings TensorFlow

    return open_model(model, views)
