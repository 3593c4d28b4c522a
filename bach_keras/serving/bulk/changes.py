"""Which answers that are there are of files that have changed since, and which are errors."""

from pathlib import Path

import pyarrow.compute as pc

from bach_keras.serving.bulk import files
from bach_keras.serving.bulk.manifest import Manifest, name_of
from bach_keras.serving.bulk.shards import Shards
from datasets.digest import sha256_of


def error_places(manifest: Manifest, shards: Shards) -> dict[int, list[int]]:
    """Return shard -> places of its errors."""
    found = {}
    for number in _numbers(manifest):
        if manifest.shards[name_of(number)].errors:
            found[number] = pc.indices_nonzero(pc.is_valid(shards.table(number)["error"])).to_pylist()
    return found


def changed_places(manifest: Manifest, shards: Shards) -> dict[int, list[int]]:
    """Return shard -> places of files of other bytes than those answered.

    Size and time of change are compared first. What is gone, and what is behind a URL, counts as unchanged.
    """
    found = {}
    for number in _numbers(manifest):
        table = shards.table(number).select(["digest", "bytes", "modified_ns"])
        columns = [column.to_pylist() for column in table.columns]
        places = [
            place
            for place, (name, *said) in enumerate(zip(shards.names(number), *columns, strict=True))
            if _is_changed(name, shards.folder, *said)
        ]
        if places:
            found[number] = places
    return found


def _numbers(manifest: Manifest) -> list[int]:
    return [number for number in range(manifest.count_of_shards) if name_of(number) in manifest.shards]


def _is_changed(name: str, folder: str | None, digest: str | None, size: int | None, modified_ns: int | None) -> bool:
    if digest is None or files.is_url(name):
        return False
    path = Path(folder or "", name)
    try:
        now = path.stat()
        if (now.st_size, now.st_mtime_ns) == (size, modified_ns):
            return False
        return sha256_of(path) != digest
    except OSError:
        return False
