"""Zip archives of weights. Neither PyTorch nor Keras compresses them or gives two members the same name."""

import io
import zipfile

from bach_keras.fields import shown
from bach_keras.network.tensors import RefusedError

# Bytes of an archive's list of members; twenty thousand tensors take half of it.
MAX_DIRECTORY = 2**22


class _Limited(io.BufferedIOBase):
    """A file that refuses to read more at once than a list of members may take."""

    def __init__(self, file):
        self.seek, self.tell, self._file, self.limit = file.seek, file.tell, file, MAX_DIRECTORY

    def read(self, size=-1):
        if self.limit is not None and size is not None and size > self.limit:
            raise RefusedError(f"is a zip archive with a list of members of more than {MAX_DIRECTORY:,} bytes")
        return self._file.read(size)

    def seekable(self):
        return True


def open_archive(file) -> zipfile.ZipFile:
    """Read an open file's list of members, unless it is longer than that of any archive of weights."""
    limited = _Limited(file)
    archive = zipfile.ZipFile(limited)
    limited.limit = None
    return archive


def members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return name -> member, unless one is compressed or encrypted or two have the same name."""
    found = {}
    for member in archive.infolist():
        if member.filename in found:
            raise RefusedError(f"is a zip archive that holds {shown(member.filename)} twice, so it was not loaded")
        is_stored = member.compress_type == zipfile.ZIP_STORED and member.compress_size == member.file_size
        if not is_stored or member.flag_bits & 1:
            raise RefusedError("is a compressed archive, which neither PyTorch nor Keras writes, so it was not loaded")
        found[member.filename] = member
    return found


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, most: int) -> bytes:
    """Return a member's bytes, unless they are more than ``most``."""
    if member.file_size > most:
        raise RefusedError(f"has {member.file_size:,} bytes of {shown(member.filename)}, more than {most:,}")
    return archive.read(member)
