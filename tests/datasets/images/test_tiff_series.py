import io

import numpy as np
import pytest
import tifffile

from datasets.images.read import decode_rgb
from tests.datasets.images import tiff_files as t
from tests.datasets.images.tiff_files import IMAGE, ORDERS, refusal, tiff, written

GREY = IMAGE[..., :1]
OME = '<?xml version="1.0"?><OME xmlns="http://x"><Image ID="Image:0"><Pixels ID="p" {}/></Image>{}</OME>'


def imagej(**more) -> bytes:
    return b"ImageJ=1.54f\n" + b"".join(b"%s=%d\n" % (name.encode(), value) for name, value in more.items())


@pytest.mark.parametrize(
    "text",
    [
        b"Aperio Image Library v12\nregion", b"anything", b"", b"\xff\0images=4", imagej(), imagej(images=1),
        OME.format('SizeX="4" SizeY="4" SizeC="3" SizeZ="1" SizeT="1"', "").encode(), b'{"shape": [4, 4, 3]}',
        b'{"shape": [4, 4]}', b"shape=(1, 4, 4, 3)", b'{"note": "shape"}',
    ],
)  # fmt: skip
def test_a_description_of_one_picture_is_read_over(text):
    np.testing.assert_array_equal(decode_rgb(tiff({t.DESCRIPTION: text})), IMAGE)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (imagej(images=3, channels=3), "holds 3 pictures"), (imagej(images=1, slices=5), "holds 5 pictures"),
        (imagej(frames=2), "holds 2 pictures"), (imagej(channels=2, slices=2, frames=2), "holds 8 pictures"),
        (b"ImageJ=1\nimages=many\n", "does not say how many"), (b"ImageJ=1\r\nimages=7\r\n", "holds 7 pictures"),
        (b"ImageJ=1\rimages=7\0", "holds 7 pictures"),
        (OME.format('SizeC="3" SizeZ="2" SizeT="1"', "").encode(), "one of 2 slices, 3 channels and 1 times"),
        (OME.format('SizeC="4" SizeZ="1" SizeT="1"', "").encode(), "4 channels"),
        (OME.format("SizeT='9' SizeC='3' SizeZ='1'", "").encode(), "9 times"),
        (OME.format('SizeC="3" SizeZ="1" SizeT="1"', "<Image><Pixels/></Image>").encode(), "holds 2 images"),
        (OME.format('SizeC="&#51;" SizeZ="1" SizeT="1"', "").encode(), "does not say what it holds"),
        (b"<OME><BinaryOnly MetadataFile='other.ome'/></OME>", "in another file"),
        (b"<ome:OME><ome:Pixels SizeC='9' SizeZ='1' SizeT='1'/></ome:OME>", "9 channels"),
        (b'{"shape": [3, 4, 4, 3], "axes": "QYXS"}', "an array of 3x4x4x3 values"), (b"shape=(2, 4, 4, 3)", "array"),
    ],
)  # fmt: skip
def test_a_description_of_more_pictures_is_noticed(text, reason):
    assert reason in refusal(tiff({t.DESCRIPTION: text}))


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({254: 1}, "reduced copy"), ({255: 2}, "reduced copy"), ({254: 4}, "is a mask"),
        ({254: 65537}, "reduced copy"), ({254: 16}, "another part"),
        ({330: [8]}, "sub-directories"),
        ({330: [8, 9, 10]}, "in 3 sub-directories"), ({513: 8}, "preview"), ({32997: 7}, "volume of 7 planes"),
        ({33629: (t.RATIONAL, [(1, 1)] * 12)}, "MetaMorph stack of 12 planes"), ({34412: bytes(9)}, "Zeiss LSM"),
        ({43314: bytes(9)}, "NIH Image"), ({50706: bytes(4)}, "DNG"), ({65420: 1}, "NDPI"),
    ],
)  # fmt: skip
def test_tags_of_more_pictures_are_noticed(tags, reason):
    assert reason in refusal(tiff(tags))


def test_stacks_as_tools_write_them_are_noticed():
    planes = np.moveaxis(IMAGE, 2, 0).copy()
    for how in (
        {"imagej": True, "metadata": {"axes": "CYX", "mode": "composite"}},
        {"imagej": True, "metadata": {"axes": "ZYX"}},
        {"imagej": True, "metadata": {"axes": "TYX"}}, {"metadata": {"axes": "QYX"}}, {"metadata": {}},
    ):  # fmt: skip
        said = refusal(written(planes, photometric="minisblack", truncate=True, **how))
        assert "save the one that is meant as its own file" in said
        assert "3 pages" in refusal(written(planes, photometric="minisblack", **how))
    assert "3 pages" in refusal(written(planes, photometric="minisblack", ome=True))
    for how in ({"imagej": True}, {"ome": True}, {}):
        np.testing.assert_array_equal(decode_rgb(written(IMAGE, photometric="rgb", **how)), IMAGE)


def test_pyramids_and_thumbnails_are_noticed():
    for subifds in (0, 1):
        buffer = io.BytesIO()
        with tifffile.TiffWriter(buffer) as file:
            file.write(IMAGE, photometric="rgb", subifds=subifds)
            file.write(IMAGE[::2, ::2], photometric="rgb", subfiletype=1)
        assert ("sub-directories" if subifds else "2 pages") in refusal(buffer.getvalue())


@pytest.mark.parametrize(("order", "is_big"), ORDERS)
def test_pages_are_counted_no_further_than_is_needed(order, is_big):
    alone = tiff(order=order, is_big=is_big)
    first = int.from_bytes(alone[8:16] if is_big else alone[4:8], "little" if order == "<" else "big")
    assert "circle" in refusal(tiff(order=order, is_big=is_big, following=first))
    assert "cut short" in refusal(tiff(order=order, is_big=is_big, following=10**6))
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, bigtiff=is_big, byteorder=order) as file:
        for _ in range(130):
            file.write(GREY[..., 0], metadata=None)
    assert "has more than 100 pages" in refusal(buffer.getvalue())


def test_a_description_costs_no_more_than_its_length():
    assert "does not say what it holds" in refusal(tiff({t.DESCRIPTION: b"<OME>" + b"<Pixels " * 10**6}))
    assert "at most 16,777,216" in refusal(tiff({t.DESCRIPTION: bytes(17 * 2**20)}))


def test_one_page_of_several_by_itself_is_read():
    np.testing.assert_array_equal(decode_rgb(tiff({254: 2, 297: (t.SHORT, [3, 9])})), IMAGE)
