"""The inputs of a door, written into a folder of its own; the list of their names keeps their order."""

import json
import os
import random
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.hostile import archives, folders, mutations, own_sets, pictures, places, requests_made, slides
from benchmarks.hostile.texts import TEXTS
from benchmarks.hostile.tree import Tree
from tests.network import hostile_weight_files as weight_files

IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


class Inputs:
    """What a campaign gives its doors; each kind is a method that writes into a folder and yields the names.

    Args:
        count: about how many pictures each door is given of those that are generated.
        files: a folder with more files, archives of such, and lists of texts (.json) to name files by.
    """

    def __init__(self, place: Path, tree: Tree, count: int, seed: int, files: Path | None):
        self._tree = tree
        self.place, self.count, self.seed = place, count, seed
        self._texts: list[str] = []
        self._given = self._unpack(files) if files else []
        self._pictures: list[tuple[str, bytes]] | None = None

    def write(self, door: str, kinds, share: float) -> Path:
        """Write the inputs of a door, and return the list of their names."""
        folder = self.place / "inputs" / door
        folder.mkdir(parents=True)
        names = [name for kind in kinds for name in getattr(self, kind)(folder, share)]
        listed = self.place / f"{door}.json"
        listed.write_text(json.dumps([os.fsencode(name).hex() for name in names]))
        return listed

    def pictures(self, folder: Path, share: float) -> Iterator[str]:
        """Damaged files, bombs and files that say hostile things of themselves; a share of them."""
        for name, data in self._pictures_of(share):
            yield _written(folder, name, data)

    def _pictures_of(self, share: float) -> list[tuple[str, bytes]]:
        if self._pictures is None:
            self._pictures = [*pictures.made(self.count, random.Random(self.seed)), *pictures.with_text(TEXTS)]
            self._bombs = list(pictures.bombs())
        chosen = random.Random(self.seed).sample(self._pictures, round(share * len(self._pictures)))
        return [*self._bombs, *chosen]

    def places(self, folder: Path, share: float) -> Iterator[str]:
        yield from places.special(folder)

    def names(self, folder: Path, share: float) -> Iterator[str]:
        yield from places.named(folder, pictures.good()["rgb.png"], (*TEXTS, *self._texts))

    def runs(self, folder: Path, share: float) -> Iterator[str]:
        yield from self._changed(folders.runs, self._tree.run("carci"), folder, share)

    def evaluations(self, folder: Path, share: float) -> Iterator[str]:
        yield from self._changed(folders.evaluations, self._tree.evaluation, folder, share)

    def exports(self, folder: Path, share: float) -> Iterator[str]:
        yield from self._changed(folders.exports, self._tree.export, folder, share)

    def _changed(self, made, base, folder, share):
        return made(base, folder, self.place / "canary", round(share * self.count / 10), self.seed)

    def weights(self, folder: Path, share: float) -> Iterator[str]:
        """Files of weights: those that call, link, lie and inflate, and damage to plain ones."""
        canary, draw = self.place / "canary", random.Random(self.seed)
        weight_files.write_pickles(folder)
        weight_files.write_headers(folder)
        weight_files.write_zips(folder)
        weight_files.write_h5s(folder, canary / "secret.h5", canary / "secret.raw")
        yield from sorted(path.name for path in folder.iterdir())
        for name, data in weight_files.plain(self.place / "work").items():
            for how, changed in mutations.damaged(data, round(share * self.count / 20), draw):
                yield _written(folder, f"{how} {name}", changed)

    def own(self, folder: Path, share: float) -> Iterator[str]:
        """Folders and CSV files of a user's own images, one of them hostile."""
        yield from own_sets.folders(folder, self._pictures_of(share), self.seed)
        yield from own_sets.sheets(folder, self.place / "canary")

    def zips(self, folder: Path, share: float) -> Iterator[str]:
        for number, (collection, names) in enumerate(own_sets.expected()):
            for name, data in archives.archives(names, str(self.place / "canary")):
                if len(data) < 2**28:
                    yield _written(folder, f"{number} {collection} {name}.zip".replace("/", "-"), data)
            good = archives.zipped(dict.fromkeys(names, pictures.good()["strips.tif"]))
            for how, data in mutations.damaged(good, round(share * self.count / 20), random.Random(self.seed)):
                yield _written(folder, f"{number} {collection} {how}.zip", data)

    def slides(self, folder: Path, share: float) -> Iterator[str]:
        yield from slides.damaged(folder, round(share * self.count / 10), random.Random(self.seed))

    def regions(self, folder: Path, share: float) -> Iterator[str]:
        yield from slides.regions(folder, round(share * self.count / 10), random.Random(self.seed))

    def http(self, folder: Path, share: float) -> Iterator[str]:
        for name, data in requests_made.http(round(share * self.count / 3), random.Random(self.seed)):
            yield _written(folder, name, data)

    def messages(self, folder: Path, share: float) -> Iterator[str]:
        for name, data in requests_made.messages(round(share * self.count / 3), random.Random(self.seed)):
            yield _written(folder, name, data)

    def lists(self, folder: Path, share: float) -> Iterator[str]:
        """Lists of paths for ``bulk`` that are none."""
        for name, data in {
            "empty": b"", "blank": b"\n\n \n", "zeros": bytes(1000), "a picture": pictures.good()["rgb.png"],
            "one line": b"x" * 10**6, "not text": b"\xff\xfe\x00a", "a zero": b"a.png\0b.png\n",
        }.items():  # fmt: skip
            yield _written(folder, f"{name}.txt", data)
        (folder / "folder").mkdir()
        yield "folder"
        for name, target in (("zero", "/dev/zero"), ("memory", "/proc/self/mem"), ("nowhere", "/nowhere")):
            os.symlink(target, folder / name)
            yield name
        with (folder / "terabyte").open("wb") as file:
            file.truncate(2**40)
        yield "terabyte"
        os.mkfifo(folder / "pipe")
        yield "pipe"

    def given(self, folder: Path, share: float) -> Iterator[str]:
        """The files of ``--files``, or a share of them."""
        for path in random.Random(self.seed).sample(self._given, round(share * len(self._given))):
            name = f"given {path.name}"
            os.link(path, folder / name)
            yield name

    def _unpack(self, files: Path) -> list[Path]:
        folder = self.place / "given"
        folder.mkdir()
        for path in sorted(files.iterdir()):
            if path.name.endswith((".tar.gz", ".tgz", ".tar")):
                with tarfile.open(path) as archive:
                    archive.extractall(folder, filter="data")
            elif path.suffix == ".json":
                self._texts += [text for text in json.loads(path.read_text()) if isinstance(text, str)]
            elif path.suffix.lower() in IMAGES:
                shutil.copyfile(path, folder / path.name)
        return sorted(path for path in folder.rglob("*") if path.is_file())


def _written(folder: Path, name: str, data: bytes) -> str:
    (folder / name).write_bytes(data)
    return name
