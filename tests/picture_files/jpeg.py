"""JPEG files: name -> the file, and whether it is taken, or None where the readers only have to agree."""

import io

from PIL import Image

from tests.picture_files import saved, tissue


def segments(data: bytes) -> list[bytes]:
    """Part a JPEG of one scan into its start, its segments, the scan with its data, and the end."""
    parts, place = [data[:2]], 2
    while data[place + 1] != 0xDA:
        size = 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        parts.append(data[place : place + size])
        place += size
    return [*parts, data[place:-2], data[-2:]]


def segment(marker: int, body: bytes) -> bytes:
    """Return one segment."""
    return bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2, "big") + body


def changed(data: bytes, *, drop=(), add: bytes = b"", frame=None, ids: bytes = b"") -> bytes:
    """Leave segments out, put some in behind the start, change the frame, rename the channels."""
    parts = [part for part in segments(data) if part[1] not in drop]
    for index, part in enumerate(parts):
        if part[:2] in (b"\xff\xc0", b"\xff\xc1", b"\xff\xc2"):
            renamed = bytearray(part)
            for channel, name in enumerate(ids):
                renamed[10 + 3 * channel] = name
            parts[index] = frame(bytes(renamed)) if frame else bytes(renamed)
        if part[:2] == b"\xff\xda":
            renamed = bytearray(part)
            for channel, name in enumerate(ids):
                renamed[5 + 2 * channel] = name
            parts[index] = bytes(renamed)
    return b"".join([parts[0], add, *parts[1:]])


def jpegs() -> dict[str, tuple[bytes, bool]]:
    """List JPEG files."""
    image = Image.fromarray(tissue())
    plain, grey = saved(image, "JPEG"), saved(image.convert("L"), "JPEG")
    cmyk, staged = saved(image.convert("CMYK"), "JPEG"), saved(image, "JPEG", progressive=True)
    paused = saved(image, "JPEG", restart_marker_blocks=2)
    raw = saved(image, "JPEG", keep_rgb=True)
    adobe, jfif = b"Adobe\0\x64\0\0\0\0", 0xE0
    orientation = b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"
    camera = io.BytesIO()
    image.save(camera, "MPO", save_all=True, append_images=[image.resize((20, 20))])
    scan = segments(plain)[-2]
    begin, tail = plain.index(b"\xff\xda"), b"\xff\xd9"
    bounds = [at for at in range(len(staged)) if staged[at : at + 2] in (b"\xff\xda", b"\xff\xc4")]
    pauses = [at for at in range(len(paused)) if paused[at] == 0xFF and 0xD0 <= paused[at + 1] <= 0xD7]
    made = {}
    for subsampling in (0, 1, 2):
        for quality in (5, 50, 95, 100):
            for progressive in (False, True):
                options = {"quality": quality, "subsampling": subsampling, "progressive": progressive}
                made[f"{options}"] = saved(image, "JPEG", **options), True
    for across, down in ((1, 2), (2, 1), (4, 1), (1, 4), (4, 2), (2, 4), (3, 1), (1, 3), (4, 4), (3, 3)):
        # One unit more or less of data makes it incomplete, so that most are refused; the doors must agree.
        made[f"sampling {across}x{down}"] = changed(plain, frame=_sampled(across << 4 | down)), None
    for size in ((1, 1), (7, 3), (8, 8), (16, 16), (17, 33), (50, 1)):
        made[f"size {size}"] = saved(image.resize(size), "JPEG"), True
        made[f"size {size} progressive"] = saved(image.resize(size), "JPEG", progressive=True), True
    for cut in range(1, 12):
        at = begin + (len(plain) - 2 - begin) * cut // 12
        made[f"cut at {cut}/12"] = plain[:at], False
        made[f"cut at {cut}/12 with an end"] = plain[:at] + tail, False
        made[f"cut at {cut}/12 with a tail of zeros"] = plain[:at] + bytes(400) + tail, None
        at = bounds[0] + (len(staged) - 2 - bounds[0]) * cut // 12
        made[f"progressive cut at {cut}/12 with an end"] = staged[:at] + tail, False
    for name, bound in enumerate(bounds[1:]):
        made[f"progressive without what follows scan {name}"] = staged[:bound] + tail, False
        made[f"progressive with a scan cut {name}"] = staged[: bound - 3] + staged[bound:], False
    return made | {
        "one byte missing": (plain[:-3] + tail, False),
        "two bytes missing": (plain[:-4] + tail, False),
        "the end missing": (plain[:-2], False),
        "half of the end missing": (plain[:-1], False),
        "grey": (grey, True),
        "grey, cut": (grey[:-9] + tail, False),
        "grey of two rows of blocks, cut": (_doubled(image.resize((30, 9)).convert("L"), cut=6), False),
        "grey of two rows of blocks": (_doubled(image.resize((30, 9)).convert("L")), True),
        "grey, progressive": (saved(image.convert("L"), "JPEG", progressive=True), True),
        "optimised": (saved(image, "JPEG", optimize=True), True),
        "CMYK": (cmyk, False),
        "CMYK without Adobe's mark": (changed(cmyk, drop=(0xEE,)), False),
        "YCCK": (changed(cmyk, drop=(0xEE,), add=segment(0xEE, adobe + b"\2")), False),
        "RGB": (raw, True),
        "RGB without Adobe's mark": (changed(raw, drop=(0xEE,)), True),
        "channels called RGB": (changed(plain, drop=(jfif,), ids=b"RGB"), True),
        "channels called RGB beside JFIF": (changed(plain, ids=b"RGB"), True),
        "channels called rgb": (changed(plain, drop=(jfif,), ids=b"rgb"), True),
        "channels from 0": (changed(plain, ids=bytes((0, 1, 2))), True),
        "channels of one name": (changed(plain, ids=bytes((1, 1, 1))), False),
        "Adobe says RGB": (changed(plain, drop=(jfif,), add=segment(0xEE, adobe + b"\0")), True),
        "Adobe says RGB beside JFIF": (changed(plain, add=segment(0xEE, adobe + b"\0")), True),
        "Adobe says YCbCr": (changed(plain, drop=(jfif,), add=segment(0xEE, adobe + b"\1")), True),
        "Adobe says YCCK": (changed(plain, drop=(jfif,), add=segment(0xEE, adobe + b"\2")), True),
        "Adobe's mark is short": (changed(plain, drop=(jfif,), add=segment(0xEE, adobe)), True),
        "two of Adobe's marks": (
            changed(plain, drop=(jfif,), add=segment(0xEE, adobe + b"\1") + segment(0xEE, adobe + b"\0")),
            True,
        ),
        "JFIF's mark is short": (changed(plain, drop=(jfif,), add=segment(jfif, b"JFIF\0\1")), True),
        "no marks": (changed(plain, drop=(jfif,)), True),
        "density": (saved(image, "JPEG", dpi=(300, 40)), True),
        "orientation": (changed(plain, add=segment(0xE1, orientation)), True),
        "EXIF that is none": (changed(plain, add=segment(0xE1, b"Exif\0\0II*\0" + b"\xff" * 40)), True),
        "thumbnail with markers": (changed(plain, add=segment(0xE1, b"Exif\0\0" + grey)), True),
        "thumbnail that is animated": (changed(plain, add=segment(0xE1, b"\0\0\0\x08acTL")), True),
        "profile of 13 MB": (saved(image, "JPEG", icc_profile=bytes(13 << 20)), True),
        "profile that is none": (changed(plain, add=segment(0xE2, b"ICC_PROFILE\0\7\2junk")), True),
        "Photoshop's mark that is none": (changed(plain, add=segment(0xED, b"Photoshop 3.0\x008BIM\0")), True),
        "pictures announced that are not there": (changed(plain, add=segment(0xE2, b"MPF\0" + bytes(30))), True),
        "comments": (changed(plain, add=segment(0xFE, b"tissue \xff\xd9\xff\xda") * 300), True),
        "too many comments": (changed(plain, add=segment(0xFE, b"") * 5000), False),
        "fill before markers": (changed(plain, add=b"\xff" * 9 + segment(0xFE, b"")), True),
        "fill before the end": (plain[:-2] + b"\xff" * 9 + tail, True),
        "bytes between segments": (changed(plain, add=segment(0xFE, b"") + bytes(5)), True),
        "bytes before the end": (plain[:-2] + bytes(40) + tail, True),
        "bytes behind the end": (plain + bytes(range(256)), True),
        "a preview behind the end": (plain + grey, True),
        "a camera's two pictures": (camera.getvalue(), True),
        "restarts": (paused, True),
        "restarts by row": (saved(image, "JPEG", restart_marker_rows=1), True),
        "restarts, progressive": (saved(image, "JPEG", restart_marker_rows=1, progressive=True), True),
        "a restart more at the end": (paused[:-2] + bytes((0xFF, 0xD0 + len(pauses) % 8)) + tail, True),
        "a restart missing": (paused[: pauses[2]] + paused[pauses[2] + 2 :], False),
        "a restart doubled": (paused[: pauses[2]] + paused[pauses[2] : pauses[2] + 2] + paused[pauses[2] :], False),
        "a restart of another number": (paused[: pauses[2] + 1] + b"\xd7" + paused[pauses[2] + 2 :], False),
        "a stretch cut": (paused[: pauses[2] - 4] + paused[pauses[2] :], False),
        "a stretch missing": (paused[: pauses[2]] + paused[pauses[3] :], False),
        "restarts unannounced": (changed(paused, drop=(0xDD,)), False),
        "restarts announced": (changed(plain, add=segment(0xDD, b"\0\1")), False),
        "restarts announced that never come": (changed(plain, add=segment(0xDD, b"\xff\xff")), True),
        "a short interval": (changed(plain, add=segment(0xDD, b"\1")), False),
        "a marker within the data": (plain[:-60] + b"\xff\x42" + plain[-60:], False),
        "arithmetic coding": (changed(plain, frame=lambda part: b"\xff\xc9" + part[2:]), False),
        "lossless": (changed(plain, frame=lambda part: b"\xff\xc3" + part[2:]), False),
        "extended": (changed(plain, frame=lambda part: b"\xff\xc1" + part[2:]), True),
        "12 bits": (changed(plain, frame=lambda part: b"\xff\xc1" + part[2:4] + b"\x0c" + part[5:]), False),
        "height to come": (changed(plain, frame=lambda part: part[:5] + b"\0\0" + part[7:]), False),
        "taller than its data": (changed(plain, frame=lambda part: part[:5] + b"\0\x60" + part[7:]), False),
        "lower than its data": (changed(plain, frame=lambda part: part[:5] + b"\0\x10" + part[7:]), True),
        "bomb": (changed(plain, frame=lambda part: part[:5] + b"\xff\xff\xff\xff" + part[9:]), False),
        "line": (changed(plain, frame=lambda part: part[:5] + b"\x10\0\0\1" + part[9:]), False),
        "no sampling": (changed(plain, frame=_sampled(0)), False),
        "a frame cut": (changed(plain, frame=lambda part: segment(0xC0, part[4:-3])), False),
        "two frames": (changed(plain, frame=lambda part: 2 * part), False),
        "no frame": (changed(plain, drop=(0xC0,)), False),
        "no scan": (plain[:begin] + tail, False),
        "a scan twice": (plain[:-2] + scan + tail, False),
        "the frame behind the scan": (b"".join([*segments(plain)[:1], scan, *segments(plain)[1:]]), False),
        "channels apart": (apart(plain, grey), True),
        "channels apart, one missing": (apart(plain, grey, 2), False),
        "no tables, so the usual ones": (changed(plain, drop=(0xC4,)), True),
        "no quantisation": (changed(plain, drop=(0xDB,)), False),
        "a hundred scans too many": (empty_scans(staged, 100), False),
        "a few empty scans": (empty_scans(staged, 3), False),
        "start alone": (plain[:4] + bytes(40), False),
        "half a header": (plain[:200], False),
        "a segment longer than the file": (plain[:4] + b"\xff\xff" + plain[6:], False),
        "a segment of no length": (changed(plain, add=b"\xff\xfe\0\0"), False),
        "a start within": (changed(plain, add=b"\xff\xd8"), False),
    }


def _sampled(factors: int):
    return lambda part: part[:11] + bytes((factors,)) + part[12:]


def _doubled(grey: Image.Image, cut: int = 0) -> bytes:
    """Return a grey JPEG that says of its one channel that it is sampled twice."""
    data = saved(grey, "JPEG", quality=95)
    return changed(data[: -2 - cut] + data[-2:], frame=_sampled(0x22))


def apart(colour: bytes, grey: bytes, count: int = 3) -> bytes:
    """Return a JPEG that has a scan for each channel, each of which holds the same grey picture."""
    tables = [part for part in segments(grey)[1:-2] if part[1] != 0xC0]
    size = segments(grey)
    frame = next(part for part in size if part[1] == 0xC0)
    frame = segment(0xC0, frame[4:9] + b"\3" + b"".join(bytes((name, 0x11, 0)) for name in (1, 2, 3)))
    data = size[-2][10:]
    scans = [segment(0xDA, bytes((1, name, 0, 0, 63, 0))) + data for name in range(1, count + 1)]
    return b"".join([b"\xff\xd8", *tables, frame, *scans, b"\xff\xd9"])


def empty_scans(progressive: bytes, count: int) -> bytes:
    """Return a progressive JPEG with so many scans more that bring nothing new."""
    return progressive[:-2] + count * (segment(0xDA, b"\1\1\0\1\x3f\0") + b"\0") + b"\xff\xd9"
