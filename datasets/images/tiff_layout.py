"""How a TIFF stores its pixels: the layouts that are known to be read right, and for every other the reason."""

from dataclasses import dataclass

import numpy as np

from datasets.images.admission import MAX_PIXELS, NotTakenError, check_size
from datasets.images.tiff_directory import CONVERT, Directory, damage
from datasets.images.tiff_segments import COMPRESSIONS, DEFLATE, JPEG, LZW, OLD_DEFLATE, RAW
from datasets.images.tiff_series import check_single

# Each strip and tile costs some time of its own, one that is a JPEG most.
_MAX_SEGMENTS, _MAX_JPEGS = 65_536, 8192

# A channel may have its own number of bits, and so on; no picture has as many channels.
_MAX_CHANNELS = 64

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, YCBCR = 0, 1, 2, 3, 6
_COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, YCBCR: 3}
_OTHER_COLOURS = {
    4: "a transparency mask", 5: "CMYK", 8: "CIELab", 9: "ICCLab", 10: "ITULab", 32803: "a camera's raw colours (CFA)",
    32844: "LogL", 32845: "LogLuv", 34892: "a camera's raw colours (LinearRaw)", 51177: "depths",
}  # fmt: skip
_OTHER_COMPRESSIONS = {
    2: "CCITT (fax)", 3: "CCITT group 3 (fax)", 4: "CCITT group 4 (fax)", 6: "old-style JPEG", 9: "JBIG", 10: "JBIG",
    32766: "NeXT RLE", 32771: "CCITT (fax)", 32809: "ThunderScan", 33003: "JPEG 2000", 33004: "JPEG 2000",
    33005: "JPEG 2000", 34661: "JBIG", 34676: "SGI LogL", 34677: "SGI LogLuv", 34712: "JPEG 2000", 34887: "LERC",
    34892: "DNG's lossy JPEG", 34925: "LZMA", 34926: "Zstandard", 34927: "WebP", 34933: "PNG", 34934: "JPEG XR",
    50000: "Zstandard", 50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL",
}  # fmt: skip
_NUMBERS = {2: "signed numbers", 3: "floats", 5: "complex numbers", 6: "complex numbers"}
ASSOCIATED, _UNASSOCIATED = 1, 2


@dataclass(frozen=True)
class Layout:
    """How the pixels are stored."""

    width: int
    height: int
    bits: int  # of a channel
    samples: int  # channels of a pixel
    photometric: int  # what the channels mean
    alpha: int  # what the channel after the colours is; 0 where there is none
    is_planar: bool  # whether each channel is stored by itself
    compression: int  # one of ``tiff_segments.COMPRESSIONS``
    predictor: int  # 2 where each pixel is stored as the difference from the one before
    is_reversed: bool  # whether the bits of each byte are in reverse order


@dataclass(frozen=True)
class Grid:
    """The strips or tiles that the picture is cut into."""

    is_tiled: bool
    width: int  # of each
    height: int  # of each; the last strip may have fewer rows
    across: int  # how many are in a row
    down: int  # how many are in a column
    offsets: np.ndarray  # where each begins in the file, plane after plane
    counts: np.ndarray  # stored bytes of each


def read_layout(directory: Directory) -> Layout:
    """Read how the pixels of a file's one picture are stored."""
    width, height, samples = read_shape(directory)
    check_single(directory, samples, width * height * samples)
    check_size(width, height)
    return layout_of(directory)


def read_shape(directory: Directory) -> tuple[int, int, int]:
    """Read the width and height in pixels, and the channels of a pixel."""
    width, height = (_required(directory, tag, name) for tag, name in ((256, "width"), (257, "height")))
    return width, height, directory.number(277, 1)


def layout_of(directory: Directory) -> Layout:
    """Read how the pixels of one directory are stored, whatever their number."""
    width, height, samples = read_shape(directory)
    compression = directory.number(259, 1)
    if compression not in COMPRESSIONS:
        name = _OTHER_COMPRESSIONS.get(compression, f"method {compression}")
        raise NotTakenError(f"is compressed by {name}, which is not read here: {CONVERT}")
    planar, order = directory.number(284, 1), directory.number(266, 1)
    if planar not in (1, 2) or order not in (1, 2):
        raise damage(f"PlanarConfiguration is {planar} and FillOrder {order}")
    bits = _bits(directory, samples)
    # Other compressions have no predictor, and readers differ on one that is there all the same.
    predictor, has_predictor = directory.number(317, 1), compression in (LZW, DEFLATE, OLD_DEFLATE) and bits == 8
    if predictor not in ((1, 2) if has_predictor else (1,)):
        raise NotTakenError(f"uses predictor {predictor} in a way that is not read here: {CONVERT}")
    photometric = _required(directory, 262, "colours (PhotometricInterpretation)")
    layout = Layout(
        width=width,
        height=height,
        bits=bits,
        samples=samples,
        photometric=photometric,
        alpha=_alpha(directory, photometric, samples),
        is_planar=planar == 2 and samples > 1,
        compression=compression,
        predictor=predictor,
        is_reversed=order == 2 and compression != JPEG,
    )
    _check_colours(directory, layout)
    return layout


def read_grid(directory: Directory, layout: Layout) -> Grid:
    """Read where the strips or tiles are, as many as there must be."""
    is_tiled, width, height = read_cut(directory, layout)
    across, down = -(-layout.width // width), -(-layout.height // height)
    if across * width * down * height > 2 * MAX_PIXELS:
        raise NotTakenError(f"has tiles of {width}x{height} pixels, far larger than itself: {CONVERT}")
    planes = layout.samples if layout.is_planar else 1
    row_bytes = -(-width * (layout.samples // planes) * layout.bits // 8)
    offsets, counts = read_places(
        directory, is_tiled, across * down * planes, _MAX_JPEGS if layout.compression == JPEG else _MAX_SEGMENTS
    )
    if not counts.all() or not offsets.all():
        name = "tiles" if is_tiled else "strips"
        raise NotTakenError(f"leaves out some of its {name} (a sparse file), so that it has holes: save it completely")
    if layout.compression == RAW:
        is_long = counts >= 2 * height * row_bytes
        if is_long.any() and (offsets + counts).max() <= directory.size:
            raise NotTakenError(f"has room for more pictures than one in its strips or tiles: {CONVERT}")
        counts = np.where(is_long, counts, np.minimum(counts, height * row_bytes))
    if (offsets + counts).max() > directory.size:
        raise damage("its strips or tiles reach beyond its end")
    # Segments may lie on each other, and then cost more than the file has bytes.
    size = across * down * planes * height * row_bytes
    if counts.sum() > 2 * size + 1024 * len(counts) + 2**20:
        raise damage(f"its strips or tiles have {counts.sum():,} bytes for {size:,} bytes of pixels")
    return Grid(is_tiled, width, height, across, down, offsets, counts)


def read_cut(directory: Directory, layout: Layout) -> tuple[bool, int, int]:
    """Read whether the picture is cut into tiles, and not strips, and the width and height of each."""
    is_tiled = 322 in directory or 324 in directory
    if is_tiled and 273 in directory:
        raise damage("it has both strips and tiles")
    width, height = layout.width, min(layout.height, directory.number(278, layout.height))
    if is_tiled:
        width, height = (_required(directory, tag, "tiles' size") for tag in (322, 323))
        if width % 16 or height % 16:
            raise NotTakenError(f"has tiles of {width}x{height} pixels, which are not multiples of 16: {CONVERT}")
    if width < 1 or height < 1:
        raise damage("its strips or tiles have no pixels")
    return is_tiled, width, height


def _required(directory: Directory, tag: int, name: str) -> int:
    value = directory.number(tag)
    if value is None:
        raise damage(f"it does not say its {name}")
    return value


def _bits(directory: Directory, samples: int) -> int:
    """Read the bits a channel, where all channels have as many and they are unsigned whole numbers."""
    kinds, bits = directory.numbers(339, _MAX_CHANNELS), directory.numbers(258, _MAX_CHANNELS)
    bits = [1] if bits is None else bits.tolist()
    most = max(bits)
    if kinds is not None and (kinds != 1).any():
        kind = _NUMBERS.get(int(kinds[kinds != 1][0]), "values of no known kind")
        more = ", more than 8 bits a channel" if most > 8 else ""
        raise NotTakenError(f"holds {kind} of {most} bits{more}: convert it to 8-bit RGB")
    if most > 8:
        raise NotTakenError(f"has {most} bits a channel, more than 8 bits: convert it to 8-bit RGB")
    if not 1 <= samples <= 4:
        raise NotTakenError(f"has {samples:,} channels, and is not grey or RGB: {CONVERT}")
    if len(bits) not in (1, samples) or len(set(bits)) > 1:
        raise NotTakenError(f"has {samples} channels of {', '.join(map(str, bits))} bits: {CONVERT}")
    if most not in ((1, 2, 4, 8) if samples == 1 else (8,)):
        raise NotTakenError(f"has {most}-bit channels, which are not read here: {CONVERT}")
    return most


def _alpha(directory: Directory, photometric: int, samples: int) -> int:
    """Read what the channel beyond the colours is; 0 where there is none."""
    if photometric not in _COLOURS:
        name = _OTHER_COLOURS.get(photometric, f"colours of method {photometric}")
        raise NotTakenError(f"holds {name}, which is not read here: {CONVERT}")
    colours = _COLOURS[photometric]
    extra = directory.numbers(338, _MAX_CHANNELS)
    extra = [] if extra is None else extra.tolist()
    if samples < colours or len(extra) > samples - colours:
        raise damage(f"it has {samples} channels, of which {colours} are colours and {len(extra)} are not")
    if samples == colours:
        return 0
    if samples > colours + 1:
        raise NotTakenError(f"has {samples} channels, and is not grey or RGB: {CONVERT}")
    known = (_UNASSOCIATED,) if photometric in (WHITE_IS_ZERO, PALETTE) else (ASSOCIATED, _UNASSOCIATED)
    if not extra or extra[0] not in known:
        raise NotTakenError(f"has {samples} channels and does not say what the last one is: {CONVERT}")
    return extra[0]


def _check_colours(directory: Directory, layout: Layout) -> None:
    """Refuse colours that the way in which they are stored makes ambiguous."""
    is_jpeg = layout.compression == JPEG
    if layout.photometric == YCBCR:
        if not is_jpeg or layout.is_planar or layout.alpha:
            raise NotTakenError(f"holds YCbCr that is not plain JPEG, which is not read here: {CONVERT}")
        weights, ranges = directory.fractions(529, 3), directory.fractions(532, 6)
        is_usual = weights is None or (len(weights) == 3 and np.allclose(weights, (0.299, 0.587, 0.114), atol=0.001))
        is_full = ranges is None or (len(ranges) == 6 and np.allclose(ranges, (0, 255, 128, 255, 128, 255), atol=1))
        if not (is_usual and is_full):
            raise NotTakenError(f"holds YCbCr of other weights or another range than JPEG's: {CONVERT}")
    of_what = {
        "a palette's numbers": layout.photometric == PALETTE,
        f"{layout.bits}-bit numbers": layout.bits != 8,
        "transparent pixels": layout.alpha and not layout.is_planar,
    }
    if is_jpeg and any(of_what.values()):
        name = next(name for name, is_so in of_what.items() if is_so)
        raise NotTakenError(f"holds {name} as JPEG, which is not read here: {CONVERT}")
    # Both give the stored numbers another meaning.
    if 433 in directory or directory.number(346, 0) != 0:
        raise NotTakenError(f"gives its numbers a meaning of their own (Decode, Indexed): {CONVERT}")


def read_places(directory: Directory, is_tiled: bool, number: int, at_most: int) -> tuple[np.ndarray, np.ndarray]:
    """Read where the strips or tiles are and how many bytes each has; zeros where one is left out."""
    name = "tiles" if is_tiled else "strips"
    if number > at_most:
        raise NotTakenError(f"has {number:,} {name}; at most {at_most:,} are taken: {CONVERT}")
    for tag in (offsets := 324 if is_tiled else 273, offsets + 1 if is_tiled else 279):
        if directory.count(tag) != number:
            raise damage(f"it has {directory.count(tag):,} {name} in tag {tag}, where its size needs {number:,}")
    places = directory.numbers(offsets, number)
    return places, directory.numbers(325 if is_tiled else 279, number)
