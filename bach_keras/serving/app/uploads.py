"""What visitors upload: a folder of this process, cleared of what is old, and the only place that is read from."""

import os
import shutil
import tempfile
import threading
import time
from pathlib import Path

from datasets.processes import MACHINE, is_running

# Seconds after which an upload is removed, whole or not, and between two looks for such.
KEPT, _LOOK = 3600, 60
# Bytes of the disk that uploads leave free for others.
LEFT_FREE = 1 << 30

# Of folders, named after the machine and the process of their page.
_PREFIX = f"bach-keras-app-{MACHINE}-"


class Uploads:
    """The folder that visitors upload to: made at once, cleared until it is closed, and then removed."""

    def __init__(self):
        remove_abandoned()
        self._made = tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-", ignore_cleanup_errors=True)
        self.folder = Path(self._made.name).resolve()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._clear, name="uploads", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self._made.cleanup()

    def _clear(self) -> None:
        while not self._ended.wait(_LOOK):
            self.remove_old()

    def remove_old(self, kept: float = KEPT) -> None:
        """Remove what was last written so many seconds ago; Gradio forgets the files of visitors who went away."""
        for path in list(self.folder.rglob("*")):
            try:
                if path.is_file() and time.time() - path.stat().st_mtime >= kept:
                    path.unlink()
            except OSError:  # Gradio has moved it
                continue

    def has_room_for(self, size: int) -> bool:
        """Return whether so many bytes more leave the disk enough for others."""
        return shutil.disk_usage(self.folder).free - size >= LEFT_FREE


def is_upload(path, folder: Path) -> bool:
    """Return whether a request's path is a file inside the folder of uploads, and not the folder or one in it."""
    try:
        place = Path(path).resolve()
        return folder in place.parents and place.is_file()
    except (TypeError, ValueError, OSError):  # not a path: a number, a null byte, a name too long
        return False


def remove_abandoned() -> None:
    """Remove what visitors uploaded to pages whose processes were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        process = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if process.isdecimal() and not is_running(int(process)):
            shutil.rmtree(folder, ignore_errors=True)
