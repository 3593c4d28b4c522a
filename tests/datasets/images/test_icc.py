import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from benchmarks.profiles import PLANTED, SRGB_CURVE, gamma, grey_profile, matrix_profile, profile
from datasets.apart import pool
from datasets.errors import UserError
from datasets.images.admission import NotTakenError
from datasets.images.icc import embedded, read_srgb
from datasets.images.read import read_rgb
from tests.datasets.images.tiff_files import ORDERS, tiff
from tests.picture_files import saved, tissue
from tests.picture_files.png import chunk, png

WIDE, TAG = PLANTED["Adobe RGB"], 34675
IMAGE = tissue()


@pytest.fixture
def file(tmp_path):
    """Return a function that writes an image's bytes and returns the path."""

    def write(data: bytes):
        path = tmp_path / "image"
        path.write_bytes(data)
        return path

    return write


def iccp(stored: bytes, **how) -> bytes:
    return chunk(b"iCCP", b"any name\0" + stored, **how)


def as_png(data: bytes) -> bytes:
    return png(8, 2, before=iccp(b"\0" + zlib.compress(data)))


def as_bmp(data: bytes, says=b"DEBM") -> bytes:
    """Write Windows' fifth header, with a profile behind the pixels."""
    pixels = np.pad(IMAGE[::-1, :, ::-1].reshape(len(IMAGE), -1), ((0, 0), (0, -3 * IMAGE.shape[1] % 4))).tobytes()
    height, width, _ = IMAGE.shape
    head = struct.pack("<IiiHHI", 124, width, height, 1, 24, 0).ljust(56, b"\0") + says
    head = head.ljust(112, b"\0") + struct.pack("<III", 124 + len(pixels), len(data), 0)
    return b"BM" + struct.pack("<III", 0, 0, 14 + 124) + head + pixels + data


def test_many_profiles_of_a_png_take_no_more_memory_than_one(file):
    path = file(png(8, 2, before=300 * iccp(b"\0" + zlib.compress(bytes(2**20)))))
    tracemalloc.start()
    assert embedded(path).fault == "one of several"
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**24


def by_formula(pixels, primaries_to_srgb, power) -> np.ndarray:
    """Convert by the definitions: to linear values, to sRGB's primaries, and along its curve."""
    linear = (pixels / 255) ** power @ np.asarray(primaries_to_srgb).T
    linear = np.clip(linear, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


KINDS = {
    "PNG": saved(IMAGE, "PNG", icc_profile=WIDE),
    "PNG with alpha": saved(tissue(4), "PNG", icc_profile=WIDE),
    "PNG of a palette": saved(Image.fromarray(IMAGE).convert("P"), "PNG", icc_profile=WIDE),
    "JPEG": saved(IMAGE, "JPEG", icc_profile=WIDE),
    "TIFF": saved(IMAGE, "TIFF", icc_profile=WIDE, compression="tiff_lzw"),
    "TIFF of a palette": saved(Image.fromarray(IMAGE).convert("P"), "TIFF", icc_profile=WIDE),
    "BMP": as_bmp(WIDE),
    **{f"TIFF {order} {big}": tiff({TAG: (7, WIDE)}, order=order, is_big=big, pixels=IMAGE) for order, big in ORDERS},
}


@pytest.mark.parametrize("data", KINDS.values(), ids=KINDS)
def test_a_profile_is_found_and_applied_in_every_kind_of_file(file, data):
    path = file(data)
    pixels, found = read_rgb(path), embedded(path)
    assert found.said(pixels) == "like Adobe RGB"
    # From Adobe RGB's primaries to sRGB's (Lindbloom's tables, both of D65).
    to_srgb = [[1.39836, -0.39836, 0], [0, 1, 0], [0, -0.04293, 1.04293]]
    assert np.abs(read_srgb(path) - by_formula(pixels, to_srgb, 2.19921875)).max() <= 1


def test_a_file_without_a_profile_is_read_as_it_is(file):
    for kind in ("PNG", "JPEG", "TIFF", "BMP"):
        path = file(saved(IMAGE, kind))
        assert embedded(path) is None
        np.testing.assert_array_equal(read_srgb(path), read_rgb(path))


def test_an_srgb_profile_changes_nothing(file):
    for data in (PLANTED["sRGB"], ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()):
        np.testing.assert_array_equal(read_srgb(file(saved(IMAGE, "PNG", icc_profile=data))), IMAGE)


@pytest.mark.parametrize("name", PLANTED)
def test_white_stays_white_and_so_does_what_is_transparent(file, name):
    clear = np.zeros((4, 4, 4), np.uint8)
    clear[0] = 255
    assert (read_srgb(file(saved(clear, "PNG", icc_profile=PLANTED[name]))) == 255).all()


def test_a_profile_in_many_segments_of_a_jpeg_is_joined(file):
    large = profile({b"desc": WIDE[-1000:], b"cprt": bytes(200_000)}, kind=b"link")
    data = saved(IMAGE, "JPEG", icc_profile=large)
    assert data.count(b"ICC_PROFILE\0") == 4
    assert "not of a device's colours" in embedded(file(data)).fault
    start, end = data.index(b"ICC_PROFILE\0"), data.rindex(b"ICC_PROFILE\0")
    for at, number in ((start + 12, 2), (start + 13, 5), (end + 12, 3), (start + 12, 0)):
        damaged = bytearray(data)
        damaged[at] = number
        assert embedded(file(bytes(damaged))).fault == "damaged, incomplete or too large"
    many = data[:2] + 300 * b"\xff\xe2\0\x10ICC_PROFILE\0\1\1" + data[2:]
    assert embedded(file(many)).fault == "damaged, incomplete or too large"


def test_grey_images_are_converted_by_profiles_of_grey_and_of_colours(file):
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    expected = np.repeat(by_formula(grey[..., None], np.eye(1), 1.8), 3, axis=2)
    for data in (
        grey_profile("grey", 1.8),
        matrix_profile("colours", [(0.64, 0.33), (0.3, 0.6), (0.15, 0.06)], gamma(1.8)),
    ):
        for kind in ("PNG", "TIFF"):
            path = file(saved(grey, kind, icc_profile=data))
            assert np.abs(read_srgb(path) - expected).max() < 2


FAULTS = {
    "of CMYK": (profile({}, space=b"CMYK", kind=b"prtr"), "of CMYK, which the image is not"),
    "of Lab": (profile({}, space=b"Lab "), "of Lab, which the image is not"),
    "of nothing known": (profile({}, space=b"\x1b[2J"), "which the image is not"),
    "of grey": (grey_profile("a grey one", 2.2), "a grey one: of grey, which the image is not"),
    "a link": (profile({}, kind=b"link"), "not of a device's colours"),
    "named colours": (profile({}, kind=b"nmcl"), "not of a device's colours"),
    "without colours": (profile({}), "damaged"),
    "cut": (WIDE[:-40], "damaged"),
    "not one": (b"profile" * 100, "damaged"),
    "without its mark": (WIDE.replace(b"acsp", b"ACSP"), "damaged"),
    "of another version": (WIDE[:8] + b"\x09" + WIDE[9:], "damaged"),
    "a header alone": (WIDE[:128], "damaged"),
    "nothing": (b"", "damaged"),
    "too large": (WIDE + bytes(17_000_000), "damaged, incomplete or too large"),
    "curves elsewhere": (WIDE.replace(b"rTRC\0\0", b"rTRC\xff\xff"), "damaged"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_profile_that_cannot_be_applied_is_noted_and_refused_only_where_it_is_to_be(file, name):
    data, reason = FAULTS[name]
    path = file(as_png(data))
    assert reason in embedded(path).said(read_rgb(path))
    with pytest.raises(UserError, match=rf"^{path} has a colour profile that cannot be applied \(.*leave out --icc"):
        read_srgb(path)


@pytest.mark.parametrize(
    "data",
    [
        png(8, 2, before=iccp(b"\0" + zlib.compress(WIDE), crc=1)), png(8, 2, before=iccp(b"\1" + zlib.compress(WIDE))),
        png(8, 2, before=iccp(b"\0" + zlib.compress(WIDE)[:-200])), png(8, 2, before=iccp(b"\0text")),
        png(8, 2, before=iccp(b"")), png(8, 2, before=2 * iccp(b"\0" + zlib.compress(WIDE))),
        png(8, 2, before=iccp(b"\0" + zlib.compress(bytes(10**9 // 8), 9))),
        tiff({TAG: (7, b"")}), tiff({TAG: (7, bytes(17 * 2**20))}), as_bmp(b"C:\\profile.icc\0", says=b"KNIL"),
        as_bmp(b""),
    ],
)  # fmt: skip
def test_what_a_file_holds_in_place_of_a_profile_is_noted(file, data):
    path = file(data)
    read_rgb(path)
    assert embedded(path).fault


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (NotTakenError("was not decoded within 60 s"), "was not decoded within 60 s"),
        (pool.AbsentError("no LittleCMS"), "not readable here: no LittleCMS"),
    ],
)
def test_a_fault_that_may_pass_is_noted_of_its_file_alone(file, monkeypatch, fault, reason):
    path = file(as_png(matrix_profile(f"met by {reason}", [(0.6, 0.3), (0.3, 0.6), (0.15, 0.06)], SRGB_CURVE)))
    with monkeypatch.context() as busy:
        busy.setattr(pool.SHARED, "ask", refusing("profile", fault))
        assert embedded(path).said(read_rgb(path)) == reason
        with pytest.raises(UserError, match="cannot be applied"):
            read_srgb(path)
    assert embedded(path).said(read_rgb(path)) == f"met by {reason}"


@pytest.mark.parametrize("kind", [NotTakenError, pool.AbsentError, pool.RefusedError])
def test_an_image_that_cannot_be_converted_is_refused_in_one_sentence(file, monkeypatch, kind):
    path = file(as_png(WIDE))
    monkeypatch.setattr(pool.SHARED, "ask", refusing("to_srgb", kind("no memory")))
    with pytest.raises(UserError, match=rf"^{path} .*no memory.*leave out --icc apply"):
        read_srgb(path)


def refusing(task: str, error: Exception):
    """Return what asks the processes apart as ``SHARED`` does, but for one task fails."""
    ask = pool.SHARED.ask

    def asked(wanted, *data, **how):
        if wanted == task:
            raise error
        return ask(wanted, *data, **how)

    return asked


def test_a_name_is_one_bounded_line(file):
    named = matrix_profile(" a\n\tb\r" + "c" * 1000, [(0.64, 0.33), (0.3, 0.6), (0.15, 0.06)], SRGB_CURVE)
    found = embedded(file(as_png(named)))
    assert found.name == "a b " + "c" * 96
    path = file(as_png(matrix_profile("", [(0.64, 0.33), (0.3, 0.6), (0.15, 0.06)], SRGB_CURVE)))
    assert embedded(path).said(read_rgb(path)) == "without a name"


def test_every_damage_of_a_profile_is_applied_or_refused(file):
    random = np.random.default_rng(0)
    for good in (WIDE[:1200], grey_profile("grey", 1.8), WIDE):
        for _ in range(60):
            damaged = np.frombuffer(good, np.uint8).copy()
            damaged[random.integers(0, 260, 4)] = random.choice((0, 1, 128, 255), 4)
            path = file(as_png(damaged.tobytes()))
            try:
                assert read_srgb(path).dtype == np.uint8
            except UserError as error:
                assert "colour profile that cannot be applied" in str(error)  # noqa: PT017
