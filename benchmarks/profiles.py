"""Colour profiles (ICC, version 2) of three primaries and a curve each, as cameras and scanners of slides have them."""

import struct

import numpy as np

D65, D50 = (0.3127, 0.3290), (0.3457, 0.3585)

# From CIE XYZ to the responses of cones, by which a white is adapted to another (Bradford).
_CONES = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])

_STEPS = np.linspace(0, 1, 1024)
SRGB_CURVE = np.where(_STEPS <= 0.04045, _STEPS / 12.92, ((_STEPS + 0.055) / 1.055) ** 2.4)


def gamma(*powers) -> np.ndarray:
    """Return the curves of channels as tables, float [channels, 1024]."""
    return _STEPS ** np.array(powers)[:, None]


def matrix_profile(name: str, primaries, curves: np.ndarray, white=D65) -> bytes:
    """Write a profile.

    Args:
        name: its description, in ASCII.
        primaries: chromaticities (x, y) of red, green and blue.
        curves: from stored to linear values, float [1024] or [3, 1024].
        white: its chromaticity.
    """
    to_d50 = _adapted(_xyz(white), _xyz(D50)) @ _to_xyz(primaries, white)
    tags = {b"desc": _text(name), b"wtpt": _number_tag(_xyz(D50))}
    for index, channel in enumerate(b"rgb"):
        tags[bytes([channel]) + b"XYZ"] = _number_tag(to_d50[:, index])
        tags[bytes([channel]) + b"TRC"] = _curve(np.broadcast_to(curves, (3, 1024))[index])
    return profile(tags)


def profile(tags: dict[bytes, bytes], space: bytes = b"RGB ", kind: bytes = b"mntr") -> bytes:
    """Write a profile of these tags, of a device's colour space and class."""
    start, table, data = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, body in tags.items():
        table += name + struct.pack(">II", start + len(data), len(body))
        data += body.ljust(-(-len(body) // 4) * 4, b"\0")
    head = struct.pack(">I4xI", start + len(data), 0x02400000) + kind + space + b"XYZ " + bytes(12) + b"acsp"
    return head.ljust(68, b"\0") + _fixed(_xyz(D50)).ljust(60, b"\0") + table + data


def grey_profile(name: str, power: float) -> bytes:
    """Write a profile of grey."""
    tags = {b"desc": _text(name), b"wtpt": _number_tag(_xyz(D50)), b"kTRC": _curve(gamma(power)[0])}
    return profile(tags, space=b"GRAY")


def _xyz(xy) -> np.ndarray:
    x, y = xy
    return np.array([x / y, 1, (1 - x - y) / y])


def _to_xyz(primaries, white) -> np.ndarray:
    columns = np.array([_xyz(xy) for xy in primaries]).T
    return columns * np.linalg.solve(columns, _xyz(white))


def _adapted(white, to) -> np.ndarray:
    return np.linalg.solve(_CONES, np.diag((_CONES @ to) / (_CONES @ white)) @ _CONES)


def _fixed(values) -> bytes:
    return np.round(np.asarray(values) * 65_536).astype(">i4").tobytes()


def _number_tag(xyz) -> bytes:
    return b"XYZ \0\0\0\0" + _fixed(xyz)


def _curve(table) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">I", len(table)) + np.round(table * 65_535).astype(">u2").tobytes()


def _text(name: str) -> bytes:
    stored = name.encode("ascii") + b"\0"
    return b"desc\0\0\0\0" + struct.pack(">I", len(stored)) + stored + bytes(4 + 4 + 2 + 1 + 67)


PLANTED = {
    "sRGB": matrix_profile("sRGB, written here", ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)), SRGB_CURVE),
    "Adobe RGB": matrix_profile("like Adobe RGB", ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)), gamma(*[2.19921875] * 3)),
    "Display P3": matrix_profile("like Display P3", ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06)), SRGB_CURVE),
    # Curves of its own in each channel, and colours that mix more than sRGB's.
    "scanner": matrix_profile("like a scanner", ((0.61, 0.34), (0.32, 0.57), (0.17, 0.09)), gamma(1.7, 1.8, 1.95)),
}
