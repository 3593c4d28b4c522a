"""The inputs of a door, written into a folder of its own; the list of their names keeps their order."""

import functools
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

    def write(self, door: str, kinds: dict[str, float]) -> Path:
        """Write a door's inputs, of each kind a share, and return the list of their names."""
        folder, names = self.place / "inputs" / door, []
        folder.mkdir(parents=True)
        for kind, share in kinds.items():
            made = list(getattr(self, kind)(folder))
            names += made if share == 1 else self._draw().sample(made, round(share * len(made)))
        listed = self.place / f"{door}.json"
        listed.write_text(json.dumps([os.fsencode(name).hex() for name in names]))
        return listed

    def _draw(self) -> random.Random:
        return random.Random(self.seed)

    def pictures(self, folder: Path) -> Iterator[str]:
        """Damaged files, and files that say hostile things of themselves."""
        for name, data in self._pictures:
            yield _written(folder, name, data)

    @functools.cached_property
    def _pictures(self) -> list[tuple[str, bytes]]:
        return [*pictures.made(self.count, self._draw()), *pictures.with_text(TEXTS)]

    def bombs(self, folder: Path) -> Iterator[str]:
        """Small files that claim or become large ones."""
        for name, data in self._bombs:
            yield _written(folder, name, data)

    @functools.cached_property
    def _bombs(self) -> list[tuple[str, bytes]]:
        return list(pictures.bombs())

    def places(self, folder: Path) -> Iterator[str]:
        # Apart, as a pipe would hold up whoever reads all that lies beside a slide, which openslide does of DICOM's.
        (folder / "places").mkdir()
        yield from (f"places/{name}" for name in places.special(folder / "places"))

    def names(self, folder: Path) -> Iterator[str]:
        good = pictures.good()["rgb.png"]
        yield from places.named(folder, good, TEXTS, (".png", " none.png", ""))
        yield from places.named(folder, good, self._texts, (".png",))

    def runs(self, folder: Path) -> Iterator[str]:
        yield from folders.runs(self._tree.run("carci"), folder, self.count // 10, self.seed)

    def evaluations(self, folder: Path) -> Iterator[str]:
        yield from folders.evaluations(self._tree.evaluation, folder, self.count // 10, self.seed)

    def exports(self, folder: Path) -> Iterator[str]:
        yield from folders.exports(self._tree.export, folder, self.count // 10, self.seed)

    def reaching(self, folder: Path) -> Iterator[str]:
        yield from folders.reaching(self._tree.export, folder, self.place / "canary")

    def weights(self, folder: Path) -> Iterator[str]:
        """Files of weights: those that call, link, lie and inflate, and damage to plain ones."""
        canary, draw = self.place / "canary", self._draw()
        weight_files.write_pickles(folder)
        weight_files.write_headers(folder)
        weight_files.write_zips(folder)
        weight_files.write_h5s(folder, canary / "secret.h5", canary / "secret.raw")
        yield from sorted(path.name for path in folder.iterdir())
        for name, data in weight_files.plain(self.place / "work").items():
            for how, changed in mutations.damaged(data, self.count // 20, draw):
                yield _written(folder, f"{how} {name}", changed)

    def own(self, folder: Path) -> Iterator[str]:
        """Folders and CSV files of a user's own images, one of them hostile."""
        yield from own_sets.folders(folder, [*self._bombs, *self._draw().sample(self._pictures, 100)], self.seed)

    def sheets(self, folder: Path) -> Iterator[str]:
        yield from own_sets.sheets(folder, self.place / "canary")

    def zips(self, folder: Path) -> Iterator[str]:
        """Zips of the published sets' images; the second word of a name is the set."""
        for number, (collection, names, beside) in enumerate(own_sets.expected()):
            for name, data in archives.archives(names, str(self.place / "canary"), beside):
                if len(data) < 2**28:
                    yield _written(folder, f"{number} {collection} {name}.zip".replace("/", "-"), data)
            good = archives.zipped(dict.fromkeys(names, pictures.good()["strips.tif"]) | beside)
            for how, data in mutations.damaged(good, self.count // 20, self._draw()):
                yield _written(folder, f"{number} {collection} {how}.zip", data)

    def slides(self, folder: Path) -> Iterator[str]:
        yield from slides.damaged(folder, self.count // 10, self._draw())

    def regions(self, folder: Path) -> Iterator[str]:
        yield from slides.regions(folder, self.count // 10, self._draw())

    def http(self, folder: Path) -> Iterator[str]:
        for name, data in requests_made.http(self.count // 5, self._draw()):
            yield _written(folder, name, data)

    def messages(self, folder: Path) -> Iterator[str]:
        for name, data in requests_made.messages(self.count // 5, self._draw()):
            yield _written(folder, name, data)

    def lists(self, folder: Path) -> Iterator[str]:
        """Files for ``bulk`` that are not lists of paths."""
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
        yield "terabyte"  # but no pipe: a list may come through one, and is waited for

    def given(self, folder: Path) -> Iterator[str]:
        """The files of ``--files``."""
        for path in self._given:
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
