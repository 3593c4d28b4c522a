"""Which images a folder shows: one row for each, and nothing of a computer's own."""

import os
from pathlib import Path

import pytest

from datasets.images import folder
from datasets.images.folder import find_images, is_clutter
from datasets.images.read import read_rgb


def lay_out(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"not an image")
    return root


def listed(*roots) -> list[str]:
    return [os.path.relpath(path, roots[0]) for path in find_images(roots)]


@pytest.mark.parametrize(
    "name",
    [
        "a.jfif",
        "a.jpe",
        "a.jif",
        "a.DIB",
        "a.JPG",
        "a.Tif",
        "a.ome.tiff",
        "a.png ",
        "b.c.bmp",
        "ä.png",
        "a.btf",
        "a.MPO",
    ],
)
def test_every_suffix_of_a_format_that_is_read_counts(tmp_path, name):
    assert listed(lay_out(tmp_path, name, "notes.txt", "table.csv", "model.h5", "png", "b.png.txt")) == [name]


@pytest.mark.parametrize(
    "name", ["a.webp", "a.JP2", "a.gif", "a.heic", "a.svs", "a.ndpi", "a.mrxs", "a.czi", "a.dcm", "a.svg"]
)
def test_an_image_of_a_format_that_is_not_taken_gets_a_row_that_says_so(tmp_path, name):
    assert listed(lay_out(tmp_path, name)) == [name]
    with pytest.raises(ValueError, match=name):
        read_rgb(tmp_path / name)


@pytest.mark.parametrize(
    "name",
    [
        "._x.png", ".x.png", ".png", "__MACOSX/x.png", "__MACOSX/a/._x.png", "Thumbs.db", ".thumbnails/x.png",
        "@eaDir/x.png/SYNOPHOTO_THUMB_XL.jpg", "$RECYCLE.BIN/x.png", ".ipynb_checkpoints/x-checkpoint.png",
        ".Trash-1000/files/x.png", "#recycle/x.png", "a/.hidden/b/x.tif", "System Volume Information/x.png",
        "lost+found/x.png", "@Recycle/x.jpg", "~$x.png", "thumbs.DB", ".git/x.png",
    ],
)  # fmt: skip
def test_a_computers_own_files_are_passed_over(tmp_path, name):
    assert listed(lay_out(tmp_path, name, "b/mine.png")) == ["b/mine.png"]
    assert any(map(is_clutter, Path(name).parts))


@pytest.mark.parametrize("root", [".cache", "__MACOSX", ".hidden/images", "@eaDir"])
def test_a_folder_that_is_named_is_looked_into_whatever_it_is_called(tmp_path, root):
    place = lay_out(tmp_path / root, "a.png", "._a.png")
    assert listed(place) == ["a.png"]


def test_linked_folders_are_followed_inside_and_outside(tmp_path):
    outside = lay_out(tmp_path / "outside", "x.png", "deep/y.png")
    root = lay_out(tmp_path / "root", "a.png")
    (root / "link").symlink_to(outside)
    (root / "to.png").symlink_to(outside / "x.png")
    (root / "relative").symlink_to(Path("..") / "outside" / "deep")
    assert listed(root) == ["a.png", "link/deep/y.png", "link/x.png", "to.png"]


def test_a_circle_of_links_ends_and_shows_no_file_twice(tmp_path):
    root = lay_out(tmp_path / "root", "a/1.png", "b/2.png")
    (root / "a" / "back").symlink_to(root)
    (root / "b" / "self").symlink_to(root / "b")
    (root / "a" / "over").symlink_to(root / "b")
    (root / "b" / "over").symlink_to(root / "a")
    (root / "A first link").symlink_to(root / "b")
    (root / "up").symlink_to(tmp_path)
    assert listed(root) == ["a/1.png", "b/2.png"]


def test_a_linked_root_is_walked(tmp_path):
    lay_out(tmp_path / "real", "a.png")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert find_images([tmp_path / "link"]) == [tmp_path / "link" / "a.png"]


def test_a_link_that_leads_nowhere_gets_a_row(tmp_path):
    lay_out(tmp_path, "a.png")
    for name in ("gone.TIF", "unmounted", "notes.txt"):
        (tmp_path / name).symlink_to(tmp_path / "nowhere")
    (tmp_path / "circle.png").symlink_to(tmp_path / "circle.png")
    assert listed(tmp_path) == ["a.png", "circle.png", "gone.TIF", "unmounted"]
    for name in ("gone.TIF", "circle.png", "unmounted"):
        with pytest.raises(ValueError, match=name):
            read_rgb(tmp_path / name)


@pytest.fixture
def closed(monkeypatch):
    """Return a function that closes a folder, also to root, who runs some tests and may look into any."""
    names, scandir = [], os.scandir

    def look(path="."):
        if os.path.basename(os.fspath(path)) in names:
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(folder.os, "scandir", look)
    return names.append


def test_a_closed_folder_gets_a_row_and_its_neighbours_are_answered(tmp_path, closed):
    root = lay_out(tmp_path / "root", "a.png", "secret/b.png", "z/c.png")
    lay_out(tmp_path / "elsewhere", "d.png")
    (root / "link").symlink_to(tmp_path / "elsewhere")
    closed("secret")
    closed("link")
    assert listed(root) == ["a.png", "link", "secret", "z/c.png"]
    with pytest.raises(ValueError, match="secret"):
        read_rgb(root / "secret")


def test_a_closed_folder_that_is_named_gets_a_row(tmp_path, closed):
    root = lay_out(tmp_path / "root", "a.png")
    closed("root")
    assert find_images([root]) == [root]


def test_a_closed_folder_of_a_computers_own_gets_none(tmp_path, closed):
    root = lay_out(tmp_path / "root", "a.png", "lost+found/b.png")
    closed("lost+found")
    assert listed(root) == ["a.png"]


def test_what_bears_an_images_name_and_is_no_file_gets_a_row(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "null.png").symlink_to(os.devnull)
    lay_out(tmp_path / "folder.png", "inside.png")
    assert listed(tmp_path) == ["folder.png/inside.png", "null.png", "pipe.png"]


def test_names_that_are_no_text_are_listed_in_one_order(tmp_path):
    names = [b"\xff.png", b"\xfe.png", "é.png".encode(), b"a\nb.png", b"a.png"]
    for name in names:
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_bytes(b"")
    found = find_images([tmp_path])
    assert sorted(os.fsencode(path.name) for path in found) == sorted(names)
    assert found == sorted(found) == find_images([tmp_path])


def test_what_is_named_is_read_whatever_it_is_called(tmp_path):
    lay_out(tmp_path, "._a.png", "notes.txt")
    assert find_images([tmp_path / "._a.png", tmp_path / "notes.txt"]) == [tmp_path / "._a.png", tmp_path / "notes.txt"]
    with pytest.raises(FileNotFoundError, match="holds no image"):
        find_images([tmp_path])


def test_a_very_deep_folder_is_walked(tmp_path):
    place = tmp_path
    for _ in range(300):
        place = place / "d"
    place.mkdir(parents=True)
    (place / "a.png").touch()
    assert find_images([tmp_path]) == [place / "a.png"]
