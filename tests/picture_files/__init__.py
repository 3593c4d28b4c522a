"""PNG, JPEG and BMP files of every kind, made of one picture."""

import io

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 37, 53


def tissue(channels: int = 3) -> np.ndarray:
    """Draw smooth structure with some noise, uint8 [HEIGHT, WIDTH, channels]."""
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (6, 8, 3), np.uint8))
    smooth = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)).astype(int)
    drawn = np.clip(smooth + random.integers(-9, 10, smooth.shape), 0, 255).astype(np.uint8)
    alpha = random.integers(0, 256, (HEIGHT, WIDTH, 1), np.uint8)
    return {1: drawn[..., 0], 2: np.dstack([drawn[..., :1], alpha]), 3: drawn, 4: np.dstack([drawn, alpha])}[channels]


def saved(image, kind: str, **options) -> bytes:
    """Encode with Pillow."""
    file = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(file, kind, **options)
    return file.getvalue()
