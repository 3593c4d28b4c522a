"""Memory and time of exports in a session of TensorFlow's C API: ``python -m benchmarks.served_memory EXPORT...``.

Each export is loaded as TF Serving loads it, in a process of its own that has neither Python's TensorFlow nor any code
of this project: TensorFlow's libraries through ctypes. It answers one image and then eight, by every signature in turn,
and its resident memory is read after each. Every export is measured as it is and with
TF_ONEDNN_ASSUME_FROZEN_WEIGHTS=1, and all of them alternate for the time of an answer, so that a drift of the machine's
speed affects them alike.
"""

import argparse
import ctypes
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bach_keras.packed_kernels import SWITCH

SIGNATURES = ("serving_default", "images", "routed", "features", "routed_images", "explain")
OF_PIXELS = ("images", "routed_images")
FEW, MANY, ROUNDS = 1, 8, 7


class Session:
    """An export in a session of the C API; ``names`` is signature -> its input's and its outputs' tensors."""

    def __init__(self, libraries, folder: str, names: dict):
        for path in libraries:
            self._c = ctypes.CDLL(path, ctypes.RTLD_GLOBAL)
        for name in ("TF_NewStatus", "TF_NewGraph", "TF_NewSessionOptions", "TF_LoadSessionFromSavedModel",
                     "TF_AllocateTensor", "TF_TensorData", "TF_GraphOperationByName", "TF_Message"):  # fmt: skip
            getattr(self._c, name).restype = ctypes.c_void_p
        self._status, self._graph = (ctypes.c_void_p(make()) for make in (self._c.TF_NewStatus, self._c.TF_NewGraph))
        options = ctypes.c_void_p(self._c.TF_NewSessionOptions())
        tags = (ctypes.c_char_p * 1)(b"serve")
        self._session = ctypes.c_void_p(
            self._c.TF_LoadSessionFromSavedModel(
                options, None, os.fsencode(folder), tags, 1, self._graph, None, self._status
            )
        )
        self._check()
        self._names = names

    def _check(self):
        if self._c.TF_GetCode(self._status):
            words = ctypes.cast(self._c.TF_Message(self._status), ctypes.c_char_p).value
            raise RuntimeError(words.decode())

    def _place(self, tensor: str) -> "_Output":
        operation, _, index = tensor.rpartition(":")
        return _Output(self._c.TF_GraphOperationByName(self._graph, operation.encode()), int(index))

    def _allocated(self, kind: int, shape, size: int) -> ctypes.c_void_p:
        sides = (ctypes.c_int64 * len(shape))(*shape)
        return ctypes.c_void_p(self._c.TF_AllocateTensor(kind, sides, len(shape), ctypes.c_size_t(size)))

    def _pixels(self, pixels: bytes, shape) -> ctypes.c_void_p:
        tensor = self._allocated(4, shape, len(pixels))  # TF_UINT8
        ctypes.memmove(self._c.TF_TensorData(tensor), pixels, len(pixels))
        return tensor

    def _files(self, files: list[bytes]) -> ctypes.c_void_p:
        size = 24  # sizeof(TF_TString)
        tensor = self._allocated(7, (len(files),), size * len(files))  # TF_STRING
        start = self._c.TF_TensorData(tensor)
        for number, file in enumerate(files):
            place = ctypes.c_void_p(start + size * number)
            self._c.TF_StringInit(place)
            self._c.TF_StringCopy(place, file, ctypes.c_size_t(len(file)))
        return tensor

    def answer(self, signature: str, given: dict) -> None:
        """Run a signature on ``files``, or on ``pixels`` of a ``shape``."""
        taken, fetched = self._names[signature]
        tensor = (
            self._pixels(given["pixels"], given["shape"]) if signature in OF_PIXELS else self._files(given["files"])
        )
        inputs, values = (_Output * 1)(self._place(taken)), (ctypes.c_void_p * 1)(tensor)
        outputs = (_Output * len(fetched))(*map(self._place, fetched))
        answers = (ctypes.c_void_p * len(fetched))()
        self._c.TF_SessionRun(
            self._session, None, inputs, values, 1, outputs, answers, len(fetched), None, 0, None, self._status
        )
        self._check()
        for made in (tensor, *answers):
            self._c.TF_DeleteTensor(ctypes.c_void_p(made) if isinstance(made, int) else made)


class _Output(ctypes.Structure):
    _fields_ = (("operation", ctypes.c_void_p), ("index", ctypes.c_int))


def megabytes() -> float:
    """Return the resident memory of this process."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def child() -> None:
    """Measure one export: JSON lines on stdin, each a question, and on stdout, each its answer."""
    asked = json.loads(sys.stdin.readline())
    files = [Path(path).read_bytes() for path in asked["files"]]
    pixels = Path(asked["pixels"]).read_bytes()
    shape = asked["shape"]

    def given(count):
        return {"files": files[:count], "pixels": pixels[: len(pixels) // len(files) * count], "shape": [count, *shape]}

    for path in asked["libraries"]:
        ctypes.CDLL(path, ctypes.RTLD_GLOBAL)
    start, before = megabytes(), time.perf_counter()
    session = Session(asked["libraries"], asked["folder"], asked["names"])
    stages = {"seconds to load": time.perf_counter() - before, "loaded": megabytes() - start}
    for signature in asked["names"]:
        for count in (FEW, MANY):
            session.answer(signature, given(count))
        stages[signature] = megabytes() - start
    print(json.dumps(stages), flush=True)
    for line in sys.stdin:
        count = int(line)
        before = time.perf_counter()
        session.answer("images", given(count))
        print(time.perf_counter() - before, flush=True)


def names_of(folder: Path) -> dict:
    """Return signature -> its input's and its outputs' tensors."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    signatures = SavedModel.FromString((folder / "saved_model.pb").read_bytes()).meta_graphs[0].signature_def
    return {
        name: (
            next(iter(signatures[name].inputs.values())).name,
            [out.name for out in signatures[name].outputs.values()],
        )
        for name in SIGNATURES
        if name in signatures  # older exports have no routed_images
    }


def requests(folder: Path, side: int) -> dict:
    """Write eight phantoms as files and as pixels of the network's side, and return what names them."""
    import numpy as np
    import tensorflow as tf

    from bach_keras.preprocess import square
    from bach_keras.serving.images import as_png
    from datasets import phantom
    from datasets.labels import CLASSES

    tissue = [phantom.draw(label, phantom.PATIENTS + number, 0) for number in range(2) for label in CLASSES]
    files = []
    for number, image in enumerate(tissue):
        files.append(str(folder / f"{number}.png"))
        Path(files[-1]).write_bytes(as_png(image))
    pixels = folder / "pixels"
    pixels.write_bytes(square(tf.constant(np.stack(tissue)), side).numpy().tobytes())
    return {"files": files, "pixels": str(pixels), "shape": [side, side, 3]}


def start(folder: Path, common: dict, setting: str) -> tuple[subprocess.Popen, dict]:
    """Start a process on an export, and return it and its stages."""
    environment = {name: value for name, value in os.environ.items() if name != SWITCH}
    process = subprocess.Popen(
        [sys.executable, "-c", "from benchmarks.served_memory import child; child()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        env=environment | ({SWITCH: "1"} if setting else {}) | {"TF_CPP_MIN_LOG_LEVEL": "2"},
    )  # fmt: skip
    process.stdin.write(json.dumps(common | {"folder": str(folder), "names": names_of(folder)}) + "\n")
    return process, json.loads(process.stdout.readline())


def weights(folder: Path) -> float:
    """Return the MB of an export's weights: its variables, or where they are constants its graph."""
    data = list((folder / "variables").glob("variables.data*"))
    size = sum(path.stat().st_size for path in data)
    return max(size, (folder / "saved_model.pb").stat().st_size) / 2**20


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("exports", nargs="+", type=Path, metavar="EXPORT")
    given = parser.parse_args()
    import tensorflow as tf

    place = Path(tf.sysconfig.get_lib())
    libraries = [str(next(place.glob(f"libtensorflow_{part}.so.*"))) for part in ("framework", "cc")]
    with tempfile.TemporaryDirectory() as scratch:
        side = json.loads((given.exports[0] / "assets" / "model_card.json").read_text())["image_size"]
        common = {"libraries": libraries, **requests(Path(scratch), side)}
        started = {
            (folder, setting): start(folder, common, setting) for folder in given.exports for setting in ("", "frozen")
        }
        seconds = {(key, count): [] for key in started for count in (FEW, MANY)}
        for _ in range(ROUNDS):
            for (key, count), taken in seconds.items():
                process, _ = started[key]
                process.stdin.write(f"{count}\n")
                taken.append(float(process.stdout.readline()))
    names = ("loaded", *SIGNATURES)
    print(
        f"| export | setting | weights | {' | '.join(names)} | of the weights | load, s | 1 image, ms | 8 images, ms |"
    )
    print("|---" * (len(names) + 7) + "|")
    for (folder, setting), (process, stages) in started.items():
        process.communicate()
        size, memory = weights(folder), [stages.get(name, 0) for name in names]
        times = [1000 * statistics.median(seconds[(folder, setting), count]) for count in (FEW, MANY)]
        cells = [f"{part:.0f}" for part in (size, *memory)]
        cells += [f"{max(memory) / size:.1f}", f"{stages['seconds to load']:.1f}", *(f"{taken:.0f}" for taken in times)]
        print(f"| {folder} | {setting} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
