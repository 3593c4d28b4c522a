"""What was tried inside TensorFlow, in words."""

import os

from bach_keras.doctor import gpus
from bach_keras.doctor.child import Inside
from bach_keras.doctor.finding import ROOT, Asked, Finding, failed, passed, warned
from bach_keras.doctor.images import reachable_sets
from bach_keras.doctor.packages import REQUIREMENTS, read_pins
from bach_keras.onednn import SWITCH, is_switched_off
from datasets.errors import UserError

_FIRST = "mend what fails above first"
_INSTALL = f"`pip install --force-reinstall -r {REQUIREMENTS}`"
_GPU_FILE = "requirements-gpu.txt"
_GPU_PAGE = "docs/gpu.md"
OLDEST_DRIVER = 525  # for CUDA 12, by NVIDIA's table
_FETCH = {"imagenet": "weights fetch", "histology": "weights fetch --which pcam"}


def tensorflow(asked: Asked, inside: Inside) -> Finding:
    found, reason = inside.step("start")
    if found is None:
        return failed("TensorFlow", f"cannot be imported: {reason}", _of_crash(reason))
    return _version("TensorFlow", found["version"], f", imported in {found['seconds']:.1f} s")


def _of_crash(reason: str) -> str:
    if "SIGILL" in reason:
        return "TensorFlow's packages need a processor with AVX: take another machine"
    if "SIGKILL" in reason or "MemoryError" in reason:
        return "free some memory, or raise the limit of it (`ulimit -v`)"
    return _INSTALL


def keras(asked: Asked, inside: Inside) -> Finding:
    found, reason = inside.step("keras")
    if found is None:
        is_first = inside.step("start")[0] and os.environ.get("KERAS_BACKEND", "tensorflow") == "tensorflow"
        return failed("Keras", f"cannot be imported: {reason}", _INSTALL if is_first else _FIRST)
    wanted = {"backend": "tensorflow", "image_data_format": "channels_last", "floatx": "float32"}
    wrong = [f"{name} is {found[name]}, not {value}" for name, value in wanted.items() if found[name] != value]
    if wrong:
        fix = "`unset KERAS_BACKEND`, and take that out of ~/.keras/keras.json"
        return failed("Keras", f"{found['version']}: {' and '.join(wrong)}", fix)
    return _version("Keras", found["version"], ", on TensorFlow")


def _version(name: str, version: str, more: str) -> Finding:
    pinned = read_pins(ROOT / REQUIREMENTS)[name.lower()]
    if version == pinned:
        return passed(name, f"{version}{more}")
    is_near = version.split(".")[:2] == pinned.split(".")[:2]
    said = f"{version}, and {pinned} is what this project was tested with"
    return (warned if is_near else failed)(name, said, f"`pip install {name.lower()}=={pinned}`")


def onednn(asked: Asked, inside: Inside) -> Finding:
    """Say whether the environment lets TensorFlow use oneDNN; whether this build has it, the convolutions tell."""
    if is_switched_off():
        return warned(
            "oneDNN", f"{SWITCH}={os.environ[SWITCH]} switches it off, and a processor is slower without it",
            f"`unset {SWITCH}`",
        )  # fmt: skip
    return passed("oneDNN", "not switched off")


def convolutions(asked: Asked, inside: Inside) -> Finding:
    """Say which form of grouped convolutions is computed here; without oneDNN it is a slower one."""
    found, reason = inside.step("convolutions")
    name = "convolutions"
    if found is None:
        return failed(name, f"could not be tried: {reason}", _FIRST)
    if found["native"]:
        return passed(name, "grouped ones and their gradients are computed by TensorFlow's own operation")
    return warned(
        name, "TensorFlow has no gradients of grouped ones here, so a slower form, as exact, takes their place",
        f"`unset {SWITCH}`, or take a GPU or a processor whose TensorFlow has oneDNN",
    )  # fmt: skip


def half_precision(asked: Asked, inside: Inside) -> Finding:
    found, reason = inside.step("half_precision")
    if found is None:
        return failed("bfloat16", f"could not be tried: {reason}", _FIRST)
    return passed("bfloat16", f"{found['said']} by `--precision auto`")


def gpu(asked: Asked, inside: Inside) -> Finding:
    """Compare the NVIDIA GPUs of this machine with those that TensorFlow sees."""
    found, reason = inside.step("start")
    seen = found["gpus"] if found else []
    there = gpus.hardware()
    if seen and not gpus.hidden():
        value = f"TensorFlow sees {', '.join(seen)}; driver {there.driver or 'not known'}, CUDA {found['cuda']}"
        if there.devices > len(seen) and "CUDA_VISIBLE_DEVICES" not in os.environ:
            return warned("GPU", f"{value}, but {there.devices} are there", f"see {_GPU_PAGE}")
        return passed("GPU", value)
    value, fix = _why_none(there, found, reason)
    if asked.expects_gpu and gpus.hidden() and there.is_there:
        return failed("GPU", value, "`unset CUDA_VISIBLE_DEVICES`")
    if asked.expects_gpu:
        return failed("GPU", value, fix or f"take a machine with an NVIDIA GPU: see {_GPU_PAGE}")
    return warned("GPU", value, fix) if fix else passed("GPU", value)


def _why_none(there: gpus.Hardware, found: dict | None, reason: str) -> tuple[str, str]:
    """Return why TensorFlow sees no GPU, and what to do; nothing where there is none or it is hidden on purpose."""
    if gpus.hidden():
        return "hidden by CUDA_VISIBLE_DEVICES: all is computed on the processor", ""
    if not there.is_there:
        return "none: all is computed on the processor", ""
    if not there.driver:
        return f"{there.cards} of NVIDIA, without a driver", f"install NVIDIA's driver: see {_GPU_PAGE}"
    return _why_unseen(there, found, reason)


def _why_unseen(there: gpus.Hardware, found: dict | None, reason: str) -> tuple[str, str]:
    said = f"NVIDIA's driver {there.driver} is there"
    if 0 < there.driver_branch < OLDEST_DRIVER:
        return f"{said}, and CUDA 12 needs {OLDEST_DRIVER} or later", f"install a newer driver: see {_GPU_PAGE}"
    if there.driver_branch and not there.devices:  # Windows has none for WSL
        return f"{said}, and no device /dev/nvidia0", f"let this container or user see it: see {_GPU_PAGE}"
    if found is None:
        return f"{said}, and TensorFlow does not start ({reason})", "see TensorFlow above"
    if not found["has_cuda"]:
        return f"{said}, and this TensorFlow is built without CUDA", f"`pip install -r {_GPU_FILE}`"
    return f"{said}, and TensorFlow sees none", f"`pip install -r {_GPU_FILE}`, or see {_GPU_PAGE}"


def records(asked: Asked, inside: Inside) -> list[Finding]:
    """Say whether TensorFlow can read the records of each prepared set, as far as there was time."""
    opened = {prepared.config: prepared for prepared in reachable_sets(asked) if _has_tables(prepared)}
    if not opened:
        return []
    found, reason = inside.step("records")
    if found is None:
        return [failed("records", f"could not be read: {reason}", _FIRST)]
    return [_records(opened[config], read) for config, read in found["sets"].items() if config in opened]


def _has_tables(prepared) -> bool:
    """Return whether it is known what there should be; where the tables are damaged, ``images`` says so."""
    try:
        return prepared.is_there
    except (OSError, UserError):
        return False


def _records(prepared, read: dict) -> Finding:
    name, config = f"records {prepared.config}", prepared.config
    verify = f"`python cli.py data verify --config {config}` names the images"
    if read["damaged"]:
        return failed(name, f"{read['damaged']}, after {read['read']} that are whole", verify)
    wanted = sum(map(len, prepared.tables.values()))
    if read["complete"] and read["read"] != wanted:
        return failed(name, f"{read['read']} are there, and {wanted} were prepared", verify)
    if read["complete"]:
        return passed(name, f"all {wanted} can be read, and their checksums are right")
    return passed(name, f"the first {read['read']} of {wanted} can be read; `data verify` reads all of them")


def weights(asked: Asked, inside: Inside) -> list[Finding]:
    found, reason = inside.step("weights")
    if found is None:
        return [failed("weights", f"could not be looked at: {reason}", _FIRST)]
    return [_weights(kind, file, asked) for kind, file in found["files"].items()]


def _weights(kind: str, file: dict, asked: Asked) -> Finding:
    name, fetch = f"weights {kind}", f"`python cli.py {_FETCH[kind]}`"
    if not file["is_there"]:
        value = f"not at {file['path']}; {fetch} brings them"
        real = [each.config for each in reachable_sets(asked) if each.is_built and each.config != "phantom"]
        if kind == "imagenet" and real:
            return warned(name, f"not at {file['path']}, from which training on {real[0]} starts", fetch)
        return passed(name, value)
    again = f"{fetch.rstrip('`')} --overwrite`"
    if file["wrong"]:
        return failed(name, file["wrong"].rstrip("."), again)
    if not file["source"]:
        shown = file["sha256"][:8] or "is not said"
        return warned(
            name, f"{file['path']} is made from a file that is not known here (SHA-256 {shown})",
            f"{again}, or be sure of where it is from",
        )  # fmt: skip
    numbers = "its numbers are those written" if file["has_digest"] else "written before its numbers had a digest"
    return passed(name, f"{file['source']} (SHA-256 {file['sha256'][:8]}), {numbers}")


def export(asked: Asked, inside: Inside) -> Finding:
    found, reason = inside.step("export")
    again = "export its runs again, with --overwrite"
    if found is None:
        return failed("export", f"{asked.model} could not be opened: {reason}", _FIRST)
    if found["wrong"]:
        return failed("export", found["wrong"].rstrip(".").removesuffix(": export it again"), again)
    value = (
        f"{found['folder']}: {found['kind']} at {found['image_size']} pixels, {found['precision']}, trained on "
        f"{', '.join(found['configs'])}, digest {found['digest'][:16]}; opened in {found['load_s']:.1f} s, two images "
        f"answered in {found['answer_s']:.1f} s"
    )
    if found["decoding"] < found["newest"]:
        return warned("export", f"{value}; of an earlier version, which decodes JPEG otherwise", again)
    slow = [sentence for sentence in found["warnings"] if "is slow on" in sentence]
    if slow:
        return warned("export", f"{value}; {found['precision']} is slow on this machine",
                      "export it with --precision float32")  # fmt: skip
    return passed("export", value)
