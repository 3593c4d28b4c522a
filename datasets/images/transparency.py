"""Transparent pixels, which become white: glass is white, and a slide is transparent where nothing was scanned."""

import numpy as np

# Whole numbers take four times the memory of pixels, so it is so many rows at a time.
_ROWS = 256


def on_white(colours: np.ndarray, alpha: np.ndarray, is_premultiplied: bool = False) -> np.ndarray:
    """Lay an image on white, rounded to the nearest whole number.

    Args:
        colours: uint8 [H, W, 3].
        alpha: uint8 [H, W, 1], 0 where nothing is.
        is_premultiplied: whether alpha is in the colours already.
    """
    laid = np.empty(colours.shape, np.uint8)
    for start in range(0, len(laid), _ROWS):
        part = slice(start, start + _ROWS)
        rgb, opacity = colours[part].astype(np.int32), alpha[part].astype(np.int32)
        if is_premultiplied:
            laid[part] = np.minimum(rgb + 255 - opacity, 255)
        else:
            laid[part] = (rgb * opacity + 255 * (255 - opacity) + 127) // 255
    return laid
