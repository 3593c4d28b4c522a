"""A process that decodes, but hangs or crashes on files of such names, as a decoder in C may."""

import os
import signal
import time
from pathlib import Path

import numpy as np

from bach_keras.serving.bulk import decoder
from datasets.errors import WorkError
from datasets.images.scale import Scale

PIXELS = np.zeros((2, 3, 3), np.uint8)
LIES = {
    "lies0": {},
    "lies1": {"error": 1},
    "lies2": {"error": "is empty", "digest": "abc"},
    "lies3": {"pixels": PIXELS[0]},
    "lies4": {"pixels": PIXELS, "scale": Scale("1", "")},
    "lies5": {"pixels": PIXELS, "bytes": 2**63},
    "lies6": {"pixels": PIXELS[..., :2]},
    "lies7": {"pixels": PIXELS, "error": "is empty"},
}


def look(name, *others, place=None):
    stem = os.path.basename(name)  # folders of tests have names as well
    if "hangs" in stem:
        time.sleep(600)
    if "leaves" in stem:  # half of an object
        Path(place, "half").touch()
        time.sleep(600)
    if "crashes" in stem:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "exits" in stem:
        os._exit(7)
    if "fails" in stem:
        raise WorkError("There is no memory for it.")
    if "stays" in stem:
        os.close(3)
        time.sleep(600)
    for word, found in LIES.items():
        if word in stem:
            return found
    return real(name, *others, place=place)


real, decoder.look = decoder.look, look

if __name__ == "__main__":
    decoder.main()
