"""Which images a folder holds: one row for each that it shows a person, so that none is lost without a word."""

import os
from collections.abc import Iterable
from pathlib import Path

from datasets.errors import MissingError

# Suffixes of the formats that are read. `.jfif` and so on are what some programs call a JPEG, `.mpo` is a camera's,
# `.btf` a large TIFF.
SUFFIXES = (
    ".apng", ".bmp", ".btf", ".dib", ".jfi", ".jfif", ".jif", ".jpe", ".jpeg", ".jpg", ".jps", ".mpo", ".pjp", ".pjpeg",
    ".png", ".tf2", ".tf8", ".tif", ".tiff",
)  # fmt: skip

# Suffixes of images that are not read: to the person who opens the folder they are images like the others, so each
# gets a row that says why it was not answered.
NOT_TAKEN = (
    ".avif", ".gif", ".heic", ".heics", ".heif", ".hif", ".webp",  # of cameras, phones and the web
    ".j2c", ".j2k", ".jls", ".jp2", ".jpc", ".jpf", ".jph", ".jpm", ".jpx", ".jxl", ".jxr", ".jxs",
    ".wdp",  # other JPEGs
    ".arw", ".cr2", ".cr3", ".dng", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".srw",  # as the sensor saw it
    ".dds", ".eps", ".exr", ".fits", ".jng", ".mng", ".pbm", ".pcx", ".pgm", ".pnm", ".ppm", ".psb", ".psd",
    ".qoi", ".svg", ".tga", ".xcf",
    ".bif", ".dcm", ".dicom", ".isyntax", ".kfb", ".mrxs", ".ndpi", ".qptiff", ".scn", ".sdpc", ".svs", ".svslide",
    ".vms", ".vmu",  # whole slides
    ".czi", ".ims", ".lif", ".lsm", ".nd2", ".oib", ".oif", ".oir", ".stk", ".vsi", ".zvi",  # microscopes
)  # fmt: skip

# What a computer makes for itself and shows nobody; hidden names, which begin with a dot, are passed over too.
_CLUTTER = frozenset({
    "__macosx", "network trash folder",  # macOS
    "$recycle.bin", "recycler", "system volume information", "thumbs.db", "ehthumbs.db",  # Windows
    "desktop.ini", "lost+found",
    "@eadir", "@tmp", "#recycle", "#snapshot", "~snapshot", "@recycle", "@recently-snapshot",  # network disks
})  # fmt: skip


def is_clutter(name: str) -> bool:
    """Say whether a file or folder of this name is a computer's own (``._x.png``, ``@eaDir``), not a person's."""
    return name.startswith((".", "~$")) or name.lower() in _CLUTTER


def find_images(paths: Iterable) -> list[Path]:
    """List the images to read: named files as they are, folders walked for image suffixes, sorted.

    A folder that cannot be looked into, a link that leads nowhere and an image of a format that is not taken are in
    the list too: ``read_rgb`` says what is wrong with each.
    """
    found = []
    for path in map(Path, paths):
        if not _leads_to_folder(path):
            found.append(path)
            continue
        files, closed = walk(path)
        inside = sorted([*filter(is_image, files), *closed])
        if not inside:
            raise MissingError(f"The folder {path} holds no image (PNG, JPEG, BMP or TIFF).")
        found += inside
    return found


def walk(root: Path) -> tuple[list[Path], list[Path]]:
    """List all files below a folder, but a computer's own, and the folders that cannot be looked into.

    Linked folders are followed. Each folder is looked into once, under its own name where that lies below the root, so
    a circle of links ends and no file is there twice. The root is looked into whatever it is called.
    """
    files, closed = [], []
    folders, links, seen = [(os.fspath(root), os.path.realpath(root))], [], set()
    while folders or links:
        if not folders:  # links wait until every folder has been met under its own name
            link = links.pop()
            folders.append((link, os.path.realpath(link)))
        folder, real = folders.pop()
        if real in seen:
            continue
        seen.add(real)
        try:
            with os.scandir(folder) as entries:
                inside = sorted((entry for entry in entries if not is_clutter(entry.name)), key=lambda e: e.name)
        except OSError:
            closed.append(Path(folder))
            continue
        for entry in inside:
            if not _leads_to_folder(entry):
                files.append(Path(entry.path))
            elif entry.is_symlink():
                links.append(entry.path)
            else:
                folders.append((entry.path, os.path.join(real, entry.name)))
        links.sort(reverse=True)
    return sorted(files), sorted(closed)


def _leads_to_folder(place: Path | os.DirEntry) -> bool:
    """Say whether this is a folder or a link to one; what cannot be looked up counts as a file: reading it says why."""
    try:
        return place.is_dir()
    except OSError:
        return False


def is_image(path: Path) -> bool:
    """Say whether a person takes this file for an image: by its suffix, whether such images are read or not."""
    suffix = path.suffix.rstrip().lower()
    # A link without a suffix that leads nowhere may stand for a folder on a disk that is not there.
    return suffix in SUFFIXES or suffix in NOT_TAKEN or (not suffix and _is_broken_link(path))


def _is_broken_link(path: Path) -> bool:
    try:
        return path.is_symlink() and not os.path.exists(path)
    except OSError:
        return True
