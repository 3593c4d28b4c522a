"""What of an image is compared with others: keypoints to find copies by, and a small picture to judge them by.

Both show where light is lost in the red. Haematoxylin absorbs red and eosin hardly does (Ruifrok & Johnston,
"Quantification of histochemical staining by color deconvolution", 2001, table 1), so this shows the nuclei whatever the
stains. The keypoints are OpenCV's SIFT (Lowe, "Distinctive image features from scale-invariant keypoints", 2004), which
stay on the same tissue when an image is turned or scaled; here the surroundings of each become 128 bits.
"""

import functools
from dataclasses import dataclass

import numpy as np

# The shorter side, in pixels, at which keypoints are looked for, and that of the small picture; the longer side is at
# most so many times it.
_SIDE, _PICTURE, _LONGEST = 256, 144, 6
# So many keypoints of an image are kept.
_KEPT = 400
# In pixels of _SIDE: the radius of the mean that is subtracted, so that shade does not count, and of the contrast that
# is divided by, so that a few dark glands do not get all the keypoints.
_RADIUS = 24.0
# The variance of optical density that is as good as blank.
BLANK = 1e-3
# The mean root of a descriptor, in thousandths, over the 30,000 keypoints of half of BISQUE's images and 45 phantoms,
# whose own means agree: a half of 2 x 4 histograms of 8 directions, which the other half mirrors.
# fmt: off
_USUAL = (
    72, 64, 51, 46, 46, 39, 38, 54,
    100, 71, 51, 49, 54, 58, 73, 98,
    74, 52, 46, 58, 80, 88, 87, 84,
    51, 43, 41, 53, 73, 73, 63, 56,
    104, 68, 51, 49, 51, 42, 36, 60,
    170, 92, 53, 54, 62, 68, 85, 136,
    105, 64, 53, 81, 128, 125, 102, 101,
    60, 51, 50, 69, 102, 87, 63, 60,
)
# fmt: on


@dataclass(frozen=True)
class Sketch:
    """What is kept of an image. Lengths are in shorter sides of the image; x goes right and y down."""

    width: int  # of the image, in pixels
    height: int
    picture: np.ndarray  # uint8 [h, w], its red channel, small
    places: np.ndarray  # complex64 [n], x + iy of each keypoint, those of most contrast first
    arrows: np.ndarray  # complex64 [n], the direction of each, as long as its radius
    codes: np.ndarray  # uint64 [n, 2], the surroundings of each

    @property
    def unit(self) -> int:
        """The shorter side in pixels."""
        return min(self.width, self.height)

    @property
    def density(self) -> np.ndarray:
        """The optical density of the picture, float32 [h, w]."""
        return _density(self.picture)

    @property
    def mirrored(self) -> "Sketch":
        """The sketch of the image with left and right exchanged."""
        return Sketch(
            width=self.width,
            height=self.height,
            picture=self.picture[:, ::-1],
            places=self.width / self.unit - self.places.conj(),
            arrows=-self.arrows.conj(),
            # The second half of a code is measured along the mirror images of the directions of the first.
            codes=self.codes[:, ::-1],
        )

    @classmethod
    def of(cls, image: np.ndarray) -> "Sketch":
        """Sketch an image, uint8 RGB [H, W, 3]."""
        import cv2

        red = np.ascontiguousarray(image[..., 0])
        height, width = red.shape
        detail = _detail(_density(_resized(red, _SIDE)))
        sift = cv2.SIFT_create(_KEPT, contrastThreshold=0.01, enable_precise_upscale=True)
        points, descriptors = sift.detectAndCompute(detail, None)
        # Where several are of the same contrast, SIFT keeps them all.
        order = np.argsort([-point.response for point in points], kind="stable")[:_KEPT]
        points = [points[number] for number in order]
        # From pixels, whose centres are half a pixel from their borders.
        unit, pixel = min(height, width), width / detail.shape[1]
        x, y = (np.array([point.pt[axis] for point in points]) + 0.5 for axis in (0, 1))
        angles = np.radians([point.angle for point in points])
        radii = np.array([point.size for point in points]) / 2
        return cls(
            width=width,
            height=height,
            picture=_resized(red, _PICTURE),
            places=((x * pixel + 1j * y * height / detail.shape[0]) / unit).astype(np.complex64),
            arrows=(radii * pixel / unit * np.exp(1j * angles)).astype(np.complex64),
            codes=_codes(np.zeros((0, 128), np.float32) if descriptors is None else descriptors[order]),
        )


def _resized(red: np.ndarray, side: int) -> np.ndarray:
    """Return a red channel, uint8 [h, w], the shorter side as given."""
    import cv2

    scale = min(side / min(red.shape), _LONGEST * side / max(red.shape))
    size = [max(1, round(length * scale)) for length in red.shape[::-1]]
    return cv2.resize(red, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def _density(red: np.ndarray) -> np.ndarray:
    return -np.log((red.astype(np.float32) + 1) / 256)


def _detail(density: np.ndarray) -> np.ndarray:
    """Return local contrast as bytes [h, w]."""
    import cv2

    detail = density - cv2.GaussianBlur(density, (0, 0), _RADIUS)
    spread = np.sqrt(cv2.GaussianBlur(detail**2, (0, 0), _RADIUS) + BLANK)
    return (128 + 42 * detail / spread).clip(0, 255).astype(np.uint8)


def _mirrored(descriptors: np.ndarray) -> np.ndarray:
    """Return what descriptors [n, 4, 4, 8] are when the image is mirrored at the keypoint's arrow."""
    return descriptors[:, ::-1, :, -np.arange(8) % 8]


@functools.cache
def _directions() -> np.ndarray:
    """Return the directions [128, 128] that descriptors are measured along: 64 at random, and their mirror images."""
    drawn = np.random.default_rng(0).standard_normal((64, 4, 4, 8)).astype(np.float32)
    return np.concatenate([drawn, _mirrored(drawn)]).reshape(128, 128).T


@functools.cache
def _usual() -> np.ndarray:
    half = np.array(_USUAL, np.float32).reshape(1, 2, 4, 8) / 1000
    whole = np.concatenate([half, np.zeros_like(half)], axis=1)
    return (whole + _mirrored(whole)).ravel()


def _codes(descriptors: np.ndarray) -> np.ndarray:
    """Say in 128 bits, uint64 [n, 2], on which side of the usual descriptor each lies along each direction."""
    # Of roots, so that distances are Hellinger's (Arandjelovic & Zisserman, "Three things everyone should know to
    # improve object retrieval", 2012).
    roots = np.sqrt(descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1))
    bits = (roots - _usual()) @ _directions() > 0
    return np.packbits(bits, axis=1).view(np.uint64).reshape(-1, 2)
