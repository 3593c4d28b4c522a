"""The NVIDIA GPUs of this machine, as Linux knows them, whatever TensorFlow sees of them."""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

_PCI, _PROC, _DEVICES = Path("/sys/bus/pci/devices"), Path("/proc/driver/nvidia"), Path("/dev")
_NVIDIA, _DISPLAY = "0x10de", "0x03"  # a maker, and the kind of device: display controllers, 3D ones too


@dataclass(frozen=True)
class Hardware:
    """What of an NVIDIA GPU is there."""

    cards: int  # on the bus; 0 also where it cannot be seen, as in WSL
    driver: str  # its version, "" where there is none
    devices: int  # that programs can open

    @property
    def driver_branch(self) -> int:
        """The first number of its version; 0 where that is not known."""
        first = self.driver.partition(".")[0]
        return int(first) if first.isdigit() else 0

    @property
    def is_there(self) -> bool:
        return bool(self.cards or self.driver or self.devices)


def hardware() -> Hardware:
    try:
        version = re.search(r"Kernel Module.*?\s(\d+(?:\.\d+)+)", (_PROC / "version").read_text())
        driver = version[1] if version else "of an unknown version"
    except OSError:
        # In WSL the driver is that of Windows.
        driver = "of an unknown version" if shutil.which("nvidia-smi") else ""
    return Hardware(sum(map(_is_card, _PCI.glob("*"))), driver, len(list(_DEVICES.glob("nvidia[0-9]*"))))


def hidden() -> bool:
    """Return whether the environment hides all GPUs from CUDA."""
    return os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")


def _is_card(device: Path) -> bool:
    try:
        kind, maker = ((device / name).read_text().strip() for name in ("class", "vendor"))
    except OSError:
        return False
    return maker == _NVIDIA and kind.startswith(_DISPLAY)
