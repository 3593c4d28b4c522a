import io
import zlib

import numpy as np
import pytest
import tifffile

from datasets.images.read import decode_rgb, read_rgb
from tests.datasets.images import tiff_files as t
from tests.datasets.images.tiff_files import IMAGE, ORDERS, refusal, tiff, written

GREY = IMAGE[..., :1]


@pytest.mark.parametrize(("order", "is_big"), ORDERS)
def test_the_plainest_file_is_read_in_both_byte_orders_and_sizes(order, is_big):
    np.testing.assert_array_equal(decode_rgb(tiff(order=order, is_big=is_big)), IMAGE)


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("photometric", [0, 1, 3])
@pytest.mark.parametrize("fill_order", [1, 2])
def test_fewer_than_8_bits_are_read_in_both_orders_of_bits(bits, photometric, fill_order):
    numbers = np.random.default_rng(0).integers(0, 2**bits, (4, 9))
    digits = ["".join(f"{number:0{bits}b}" for number in row).ljust(40, "0") for row in numbers]
    digits = [row[: -(-9 * bits // 8) * 8] for row in digits]
    octets = [row[at : at + 8] for row in digits for at in range(0, len(row), 8)]
    stored = bytes(int(octet if fill_order == 1 else octet[::-1], 2) for octet in octets)
    palette = np.random.default_rng(1).integers(0, 256, (3, 2**bits))
    tags = {t.BITS: bits, t.PHOTOMETRIC: photometric, t.WIDTH: 9, 266: fill_order}
    if photometric == 3:
        tags[t.PALETTE] = (t.SHORT, (palette.reshape(-1) * 257).tolist())
        expected = palette.T[numbers]
    else:
        grey = numbers * (255 // (2**bits - 1))
        expected = np.repeat((grey if photometric else 255 - grey)[..., None], 3, 2)
    np.testing.assert_array_equal(decode_rgb(tiff(tags, [stored], pixels=GREY)), expected)


@pytest.mark.parametrize("compression", ["lzw", "packbits", "deflate"])
def test_reversed_bits_are_turned_before_they_are_unpacked(compression):
    with tifffile.TiffFile(io.BytesIO(written(IMAGE, photometric="rgb", compression=compression))) as file:
        page = file.pages[0]
        data = file.filehandle.read_segments(page.dataoffsets, page.databytecounts)
        stored = bytes(int(f"{byte:08b}"[::-1], 2) for byte in next(data)[0])
    tags = {t.COMPRESSION: int(page.compression), 266: 2}
    np.testing.assert_array_equal(decode_rgb(tiff(tags, [stored])), IMAGE)


def test_orientation_and_profiles_are_read_over():
    for tags in ({t.ORIENTATION: 6}, {t.ORIENTATION: 3}, {34675: (7, bytes(3_000_000))}, {700: (1, bytes(200_000))}):
        np.testing.assert_array_equal(decode_rgb(tiff(tags)), IMAGE)


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({t.WIDTH: None}, "does not say its width"), ({t.PHOTOMETRIC: None}, "PhotometricInterpretation"),
        ({t.WIDTH: 0}, "0x4 pixels"), ({t.WIDTH: 2**31, t.HEIGHT: 2**31}, "at most 50,331,648"),
        ({t.WIDTH: (t.SHORT, [4, 4])}, "tag 256 has 2 values"), ({t.SAMPLES: 0}, "has 0 channels"),
        ({t.SAMPLES: 2**32 - 1}, "channels"), ({t.BITS: [8, 8, 4]}, "channels of 8, 8, 4 bits"),
        ({t.BITS: [4, 4, 4]}, "has 4-bit channels"), ({t.BITS: (t.SHORT, [8] * 5000)}, "5,000 values"),
        ({t.FORMAT: [1, 1, 3]}, "holds floats"), ({t.FORMAT: 4}, "no known kind"),
        ({t.PLANAR: 3}, "PlanarConfiguration"),
        ({t.COMPRESSION: 6}, "old-style JPEG"), ({t.COMPRESSION: 4}, "fax"), ({t.COMPRESSION: 999}, "method 999"),
        ({t.PHOTOMETRIC: 8}, "CIELab"), ({t.PHOTOMETRIC: 777}, "method 777"), ({t.PHOTOMETRIC: 6}, "YCbCr"),
        ({t.PREDICTOR: 2}, "predictor 2"), ({t.COMPRESSION: 5, t.PREDICTOR: 3}, "predictor 3"),
        ({266: 3}, "FillOrder 3"),
        ({433: (t.RATIONAL, [(1, 1)])}, "Decode"), ({346: 1}, "Indexed"), ({t.ROWS: 0}, "no pixels"),
        ({t.OFFSETS: None}, "0 strips"), ({t.COUNTS: None}, "0 strips"), ({t.OFFSETS: 0}, "sparse"),
        ({t.COUNTS: 0}, "sparse"),
        ({t.OFFSETS: [8, 8], t.COUNTS: [9, 9]}, "2 strips in tag 273, where its size needs 1"),
        ({t.COUNTS: 47}, "47 bytes"),
        ({t.OFFSETS: 10**6}, "beyond its end"), ({t.ROWS: 2}, "1 strips in tag 273, where its size needs 2"),
        ({t.OFFSETS: (t.LONG8, [2**63])}, "tag 273"), ({t.TILE_WIDTH: 16, t.TILE_HEIGHT: 16}, "both strips and tiles"),
        ({t.OFFSETS: None, t.TILE_OFFSETS: 8, t.TILE_COUNTS: 48, t.TILE_WIDTH: 4, t.TILE_HEIGHT: 4}, "multiples of 16"),
        ({t.OFFSETS: None, t.TILE_OFFSETS: 8, t.TILE_COUNTS: 48, t.TILE_WIDTH: 2**20, t.TILE_HEIGHT: 2**20}, "far"),
    ],
)  # fmt: skip
def test_a_directory_that_cannot_be_right_is_refused_in_words(tags, reason):
    assert reason in refusal(tiff(tags))


def test_a_tag_that_is_there_twice_is_refused():
    data = bytearray(tiff({305: b"abc\0"}))
    place = data.index(bytes((305 % 256, 1)) + b"\2\0")
    data[place : place + 2] = bytes((t.SAMPLES % 256, 1))  # another tag 277 behind the first
    assert "tag 277 is there 2 times" in refusal(bytes(data))


def test_a_palette_of_the_wrong_length_is_refused():
    for length in (3, 767, 769):
        tags = {t.PHOTOMETRIC: 3, t.PALETTE: (t.SHORT, [9] * length)}
        assert f"palette has {length} values, where 768" in refusal(tiff(tags, pixels=GREY))
    assert "palette has 0 values" in refusal(tiff({t.PHOTOMETRIC: 3}, pixels=GREY))


def test_strips_and_tiles_cost_no_more_than_their_pixels():
    many = {t.WIDTH: 1000, t.HEIGHT: 50_000, t.ROWS: 1, t.PLANAR: 2}
    assert "has 150,000 strips; at most 65,536" in refusal(tiff(many))
    assert "has 50,000 strips; at most 8,192" in refusal(tiff(many | {t.PLANAR: 1, t.COMPRESSION: 7}))
    # A hundred strips that are all the same million bytes.
    tags = {t.HEIGHT: 100, t.ROWS: 1, t.COMPRESSION: 8, t.OFFSETS: [8] * 100, t.COUNTS: [10**6] * 100}
    assert "100,000,000 bytes for 1,200 bytes of pixels" in refusal(tiff(tags, [bytes(10**6)]))


def test_strips_may_be_longer_than_their_pixels_need():
    np.testing.assert_array_equal(decode_rgb(tiff(None, [IMAGE.tobytes() + b"more"])), IMAGE)
    # As long as several pictures would be.
    assert "room for more pictures" in refusal(tiff(None, [IMAGE.tobytes() * 3]))
    assert "beyond its end" in refusal(tiff({t.COUNTS: 10**6}))


@pytest.mark.parametrize("damage", ["short", "checksum", "cut", "long"])
def test_a_deflated_strip_must_be_complete(damage):
    good = zlib.compress(IMAGE.tobytes())
    stored = {
        "short": zlib.compress(IMAGE.tobytes()[:-1]), "checksum": good[:-1] + bytes([good[-1] ^ 1]), "cut": good[:-4],
        "long": zlib.compress(IMAGE.tobytes() + b"0"),
    }[damage]  # fmt: skip
    np.testing.assert_array_equal(decode_rgb(tiff({t.COMPRESSION: 8}, [good])), IMAGE)
    assert "cut short" in refusal(tiff({t.COMPRESSION: 8}, [stored]))


def test_a_strip_that_inflates_to_gigabytes_is_not_inflated():
    packer = zlib.compressobj(9)
    bomb = b"".join(packer.compress(bytes(2**20)) for _ in range(64)) + packer.flush()
    assert "does not inflate to what its pixels need" in refusal(tiff({t.COMPRESSION: 8}, [bomb]))


@pytest.mark.parametrize(("compression", "stored"), [(32773, b"\xf0\7"), (5, b"\x80\x01\x01")])
def test_lzw_and_packbits_that_end_early_are_refused_without_a_line_of_libtiff(compression, stored, capfd):
    assert "cut short" in refusal(tiff({t.COMPRESSION: compression}, [stored]))
    assert capfd.readouterr().err == ""


def test_a_large_sparse_file_is_answered_by_its_directory(tmp_path):
    path = tmp_path / "slide.tif"
    with path.open("wb") as file:
        file.write(tiff(following=39 * 10**9, is_big=True))
        file.truncate(40 * 10**9)
    with pytest.raises(ValueError, match="cut short"):
        read_rgb(path)
    with path.open("wb") as file:
        file.write(tiff())
        file.truncate(40 * 10**9)
    np.testing.assert_array_equal(read_rgb(path), IMAGE)


def test_lzw_from_before_tiff_5_is_called_what_it_is():
    assert "LZW as it was before TIFF 5" in refusal(tiff({t.COMPRESSION: 5}, [b"\0\1\2\3"]))
