"""``manifest.json``: which model answers which list, and which files hold answers that count."""

import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from bach_keras.fields import FLAG, NOTHING, OBJECT, SHA256, TEXT, FieldError, Kind, check, list_of, read_object, whole
from bach_keras.wording import counted
from datasets.digest import sha256_of
from datasets.errors import UserError
from datasets.whole import write_json

FILE = "manifest.json"
FORMAT = 1

_MOST = 10**12
_FIELDS = {
    "format": whole(FORMAT, FORMAT), "complete": FLAG, "model": OBJECT, "options": OBJECT, "input": OBJECT,
    "shard_size": whole(1, _MOST), "rows": whole(0, _MOST), "errors": whole(0, _MOST), "shards": list_of(OBJECT),
}  # fmt: skip
_MODEL = {"folder": TEXT, "digest": SHA256}
_INPUT = {
    "source": TEXT,
    "sha256": SHA256,
    "count": whole(1, _MOST),
    "folder": TEXT | NOTHING,
    "doubles": whole(0, _MOST),
}
_NAME = Kind(
    "the name of a shard", lambda value: isinstance(value, str) and bool(re.fullmatch(r"part-\d{5,}\.parquet", value))
)
_SHARD = {"name": _NAME, "sha256": SHA256, "rows": whole(1, _MOST), "errors": whole(0, _MOST)}


@dataclass(frozen=True)
class Shard:
    """A file of answers that counts."""

    name: str
    sha256: str
    rows: int
    errors: int


def name_of(number: int) -> str:
    return f"part-{number:05d}.parquet"


@dataclass
class Manifest:
    """What the answers in a folder are of, and how many there are."""

    model: dict  # folder and digest
    options: dict  # what else an answer depends on
    input: dict  # source, sha256, count, folder and doubles
    shard_size: int
    shards: dict[str, Shard] = field(default_factory=dict)  # by name

    @property
    def rows(self) -> int:
        return sum(shard.rows for shard in self.shards.values())

    @property
    def errors(self) -> int:
        return sum(shard.errors for shard in self.shards.values())

    @property
    def count_of_shards(self) -> int:
        return -(-self.input["count"] // self.shard_size)

    @classmethod
    def read(cls, folder: Path) -> "Manifest | None":
        """Read the manifest of a folder; None where there is none."""
        path = folder / FILE
        if not path.exists():
            return None
        try:
            values = read_object(path)
            check(values, _FIELDS)
            check(values["model"], _MODEL, within="model")
            check(values["input"], _INPUT, within="input")
            for place, each in enumerate(values["shards"]):
                check(each, _SHARD, within=f"shards[{place}]")
        except FieldError as error:
            raise UserError(
                f"{path} is not a manifest of `bulk` ({str(error).rstrip('.')}): name another --out."
            ) from error
        shards = {each["name"]: Shard(**{name: each[name] for name in _SHARD}) for each in values["shards"]}
        return cls(values["model"], values["options"], values["input"], values["shard_size"], shards)

    def write(self, folder: Path) -> None:
        values = asdict(replace(self, shards={})) | {
            "format": FORMAT,
            "complete": self.rows == self.input["count"],
            "rows": self.rows,
            "errors": self.errors,
            "shards": [asdict(self.shards[name]) for name in sorted(self.shards)],
        }
        write_json(folder / FILE, {name: values[name] for name in _FIELDS})

    def drop_what_does_not_count(self, folder: Path) -> list[str]:
        """Forget shards of which the files are not those that were recorded; return their names."""
        lost = [name for name, shard in self.shards.items() if not _is_there(folder / name, shard.sha256)]
        for name in lost:
            del self.shards[name]
        for left in folder.glob(kept_beside(Path("part-*.parquet")).name):
            left.unlink()
        return lost


def kept_beside(path: Path) -> Path:
    """Return where a shard is while the one that replaces it is not recorded yet."""
    return path.with_name(f".{path.name}.kept")


def _is_there(path: Path, sha256: str) -> bool:
    """Say whether a shard is there as it was recorded; one that was kept when its replacement failed is put back."""
    if sha256_if_there(path) == sha256:
        return True
    kept = kept_beside(path)
    if sha256_if_there(kept) != sha256:
        return False
    kept.replace(path)
    return True


def sha256_if_there(path: Path) -> str | None:
    try:
        return sha256_of(path)
    except FileNotFoundError:
        return None


def check_same(there: Manifest, wanted: Manifest, folder: Path) -> None:
    """Refuse to put answers beside those of another model, list or setting."""
    other = "Name another --out"
    if there.model["digest"] != wanted.model["digest"]:
        raise UserError(
            f"{folder} holds answers of another model ({there.model['folder']}, {there.model['digest'][:12]}) than "
            f"{wanted.model['folder']} ({wanted.model['digest'][:12]}). {other}."
        )
    changed = [
        name for name in sorted(there.options | wanted.options) if there.options.get(name) != wanted.options.get(name)
    ]
    if changed:
        before = ", ".join(f"{name} {there.options.get(name)}" for name in changed)
        now = ", ".join(f"{name} {wanted.options.get(name)}" for name in changed)
        raise UserError(f"{folder} holds answers with {before}, and not with {now}. {other}, or give the same options.")
    _check_same_input(there.input, wanted.input, folder)
    if there.shard_size != wanted.shard_size:
        raise UserError(
            f"{folder} was started with --shard-size {there.shard_size}, and not {wanted.shard_size}: leave it out."
        )


def _check_same_input(there: dict, wanted: dict, folder: Path) -> None:
    if there["sha256"] == wanted["sha256"] and there["folder"] != wanted["folder"]:
        raise UserError(
            f"{folder} holds answers for relative paths that begin in {there['folder']}, and now they begin in "
            f"{wanted['folder']}: give the command in the first, or name another --out."
        )
    if there["sha256"] != wanted["sha256"]:
        before = f"{counted(there['count'], 'image')} of {there['source']}"
        now = f"these {wanted['count']} of {wanted['source']}"
        if (there["count"], there["source"]) == (wanted["count"], wanted["source"]):
            now = "those that it names now, as many but others or in another order"
        raise UserError(f"{folder} holds answers for another input: {before}, and not {now}. Name another --out.")
