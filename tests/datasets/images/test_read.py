import io
import os
import random
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.errors import UserError
from datasets.images import admission
from datasets.images.folder import find_images
from datasets.images.read import decode_rgb, read_rgb, read_size

RGB = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "1"])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_eight_bit_images_become_rgb(tmp_path, mode, suffix):
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(RGB).convert(mode).save(path)
    pixels = read_rgb(path)
    assert pixels.shape == (4, 6, 3)
    assert pixels.dtype == np.uint8
    if mode in ("RGB", "RGBA"):
        np.testing.assert_array_equal(pixels, RGB)


def test_what_cannot_be_read_says_why(tmp_path):
    deep, pages, cut, text, empty = (tmp_path / name for name in ("d.png", "p.tif", "c.png", "t.png", "e.png"))
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(deep)
    Image.fromarray(RGB).save(pages, save_all=True, append_images=[Image.fromarray(RGB)])
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 50, 3), np.uint8)).save(cut)
    cut.write_bytes(cut.read_bytes()[:900])
    text.write_text("no image")
    empty.touch()
    # A TIFF may keep its directory at its end, and then loses even its size.
    tiff = tmp_path / "c.tif"
    tiff.write_bytes(b"II*\0" + (10**6).to_bytes(4, "little") + bytes(900))
    for path, reason in (
        (deep, "8 bits"), (pages, "2 pages"), (cut, "cut short"), (tiff, "cut short"), (text, "not a PNG"),
        (empty, "empty"), (tmp_path / "missing.png", "not there"), (Path("/proc/self/mem"), "cannot be read"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=reason):
            read_rgb(path)
    Image.new("1", (7200, 7000)).save(tmp_path / "large.png")
    with pytest.raises(UserError, match="7200x7000 pixels; at most"):
        read_rgb(tmp_path / "large.png")


def test_what_cannot_be_looked_up_is_reported_with_its_path(tmp_path, monkeypatch):
    (tmp_path / "a.png").touch()

    def closed(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", closed)
    assert find_images([tmp_path]) == [tmp_path / "a.png"]
    with pytest.raises(UserError, match=r"a\.png cannot be read: Permission denied"):
        read_rgb(tmp_path / "a.png")
    monkeypatch.setattr(Path, "is_dir", closed)
    assert find_images([tmp_path / "b.png"]) == [tmp_path / "b.png"]


def test_other_formats_and_lines_of_pixels_are_refused(tmp_path):
    gif, moving, line = (tmp_path / name for name in ("a.gif", "a.png", "line.png"))
    Image.fromarray(RGB).save(gif)
    Image.fromarray(RGB).save(moving, save_all=True, append_images=[Image.fromarray(255 - RGB)])
    Image.fromarray(np.zeros((1, 30_000, 3), np.uint8)).save(line)
    for path, reason in ((gif, "not a PNG, JPEG"), (moving, "animation"), (line, "50 times as long as wide")):
        with pytest.raises(UserError, match=f"{path} .*{reason}"):
            read_rgb(path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF"])
def test_damage_of_any_kind_is_reported_in_one_sentence_with_the_path(tmp_path, kind):
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, kind)
    good, path, random_ = buffer.getvalue(), tmp_path / "image", random.Random(0)
    refused = 0
    for _ in range(400):
        damaged = bytearray(good)
        for _ in range(random_.choice((1, 2, 4))):
            damaged[random_.randrange(len(damaged))] = random_.choice((0, 1, 255))
        path.write_bytes(damaged)
        try:
            read_rgb(path)
        except UserError as error:
            refused += 1
            assert str(error).startswith(f"{path} ")  # noqa: PT017
    assert refused > 10


def test_sixteen_bit_colour_is_refused_though_pillow_opens_it(tmp_path):
    import struct
    import zlib

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    data = zlib.compress(bytes(13))
    path = tmp_path / "deep.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b""))
    with pytest.raises(UserError, match="8 bits"):
        read_rgb(path)


def test_folders_are_walked_sorted_and_by_suffix(tmp_path):
    for name in ("b/2.TIF", "a.png", "b/1.jpg", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [str(path.relative_to(tmp_path)) for path in find_images([tmp_path])]
    assert found == ["a.png", "b/1.jpg", "b/2.TIF"]
    assert find_images([tmp_path / "notes.txt"]) == [tmp_path / "notes.txt"]
    (tmp_path / "void").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no image"):
        find_images([tmp_path / "void"])


def test_what_is_no_file_is_never_opened(tmp_path):
    pipe, folder, link, circle, plug = (
        tmp_path / f"{name}.png" for name in ("pipe", "folder", "link", "circle", "plug")
    )
    os.mkfifo(pipe)
    folder.mkdir()
    link.symlink_to(tmp_path / "nowhere")
    circle.symlink_to(circle)
    device = tmp_path / "device.png"
    device.symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(plug))
        for path, reason in (
            (pipe, "is a pipe"), (folder, "is a folder"), (link, "is a link to what is not there"),
            (device, "is a device"),
            (circle, "cannot be read: Too many levels"), (plug, "is a socket"), (pipe / "a.png", "is not there"),
        ):  # fmt: skip
            with pytest.raises(UserError, match=f"^{path} {reason}.*[.]$"):
                read_rgb(path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP"])
def test_a_file_larger_than_any_image_is_refused_without_being_read(tmp_path, kind):
    path = tmp_path / "a.png"
    Image.fromarray(RGB).save(path, kind)
    os.truncate(path, 40 * 10**9)
    with pytest.raises(UserError, match="has 40,000,000,000 bytes; at most 268,435,456 are taken"):
        read_rgb(path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_profiles_of_any_size_are_read_over(tmp_path, kind):
    path = tmp_path / "image"
    profile = b"".join(number.to_bytes(4) for number in range(900_000))
    Image.fromarray(RGB).save(path, kind, icc_profile=profile)
    without = tmp_path / "without"
    Image.fromarray(RGB).save(without, kind)
    np.testing.assert_array_equal(read_rgb(path), read_rgb(without))


def test_a_slide_whose_file_shows_its_label_is_refused(tmp_path):
    path = tmp_path / "slide.MRXS"
    Image.fromarray(RGB).save(path, "JPEG")
    with pytest.raises(UserError, match="but a MIRAX slide"):
        read_rgb(path)


def test_bytes_are_decoded_as_files_are(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, "TIFF")
    np.testing.assert_array_equal(decode_rgb(buffer.getvalue()), RGB)
    with pytest.raises(admission.NotTakenError, match=r"^is empty$"):
        decode_rgb(b"")


def test_a_closed_folder_is_reported_as_such(tmp_path, monkeypatch):
    def closed(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", closed)
    with pytest.raises(UserError, match=f"^{tmp_path} cannot be read: Permission denied[.]$"):
        read_rgb(tmp_path)


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg", "bmp"])
def test_the_size_is_read_without_the_pixels(tmp_path, suffix):
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(RGB).save(path)
    assert read_size(path) == (6, 4)
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(UserError, match=r"is damaged|is cut short"):
        read_size(path)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_header_shows_what_cannot_be_read(tmp_path, suffix):
    path = tmp_path / f"deep.{suffix}"
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(path)
    with pytest.raises(UserError, match="bits a channel") as seen:
        read_size(path)
    with pytest.raises(UserError) as read:
        read_rgb(path)
    assert str(seen.value) == str(read.value)
