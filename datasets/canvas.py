"""The canvas of the phantoms: shapes and nuclei painted as amounts of stain.

Amounts are (haematoxylin, eosin, fibre): optical density x 100, and how far the stroma's waves show.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

HEIGHT, WIDTH = 288, 384

STROMA = (6, 52, 100)


@dataclass(frozen=True)
class Shape:
    """A closed wavy outline around a centre, in pixels: the outer edge of a duct, a gland, a lobule."""

    x: float
    y: float
    radius: float
    stretch: float
    angle: float
    waves: np.ndarray  # [k, 2]: amplitude and phase of the harmonics 2, 3, ...

    def _reach(self, theta: np.ndarray) -> np.ndarray:
        harmonics = np.arange(2, 2 + len(self.waves))
        return 1 + np.cos(theta[..., None] * harmonics + self.waves[:, 1]) @ self.waves[:, 0]

    def outline(self, points: int = 40, scale: float = 1.0) -> np.ndarray:
        """Return [points, 2] x and y on the edge, or on a smaller copy of it."""
        theta = np.arange(points) * (2 * np.pi / points)
        reach = self._reach(theta) * scale
        along = np.cos(theta) * reach * self.radius * self.stretch
        across = np.sin(theta) * reach * self.radius / self.stretch
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return np.stack([self.x + along * cos - across * sin, self.y + along * sin + across * cos], axis=-1)

    def depth(self, points: np.ndarray) -> np.ndarray:
        """Return, for [n, 2] points, 0 at the centre, 1 on the edge and more outside."""
        dx, dy = points[:, 0] - self.x, points[:, 1] - self.y
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        along, across = (dx * cos + dy * sin) / self.stretch, (dy * cos - dx * sin) * self.stretch
        return np.hypot(along, across) / (self.radius * self._reach(np.arctan2(across, along)))

    def length(self) -> float:
        """Return the rough length of the edge."""
        return 2 * np.pi * self.radius * (self.stretch + 1 / self.stretch) / 2


class Canvas:
    """The amounts of the two stains, painted back to front; sizes are in pixels at scale 1."""

    def __init__(self, rng: np.random.Generator, scale: float):
        self.rng = rng
        self.scale = scale
        self._image = Image.new("RGB", (WIDTH, HEIGHT), STROMA)
        self._pen = ImageDraw.Draw(self._image)
        self._ground = None
        self.fibre_angle = rng.uniform(0, np.pi)

    def shape(self, centre, radius, stretch=1.0, *, waviness=0.06, harmonics=3, angle=None) -> Shape:
        """Return a random outline: higher harmonics are weaker, and the angle is random if not given."""
        fading = waviness / np.sqrt(np.arange(1, harmonics + 1))
        waves = np.stack([self.rng.normal(0, fading), self.rng.uniform(0, 2 * np.pi, harmonics)], axis=1)
        angle = self.rng.uniform(0, np.pi) if angle is None else angle
        return Shape(*centre, radius * self.scale, stretch, angle, waves)

    def fill(self, outline: np.ndarray, amounts: tuple[int, int, int]) -> None:
        """Paint the inside of an outline [n, 2]."""
        self._pen.polygon(outline.ravel().tolist(), fill=amounts)

    def end_ground(self) -> None:
        """Say that all of the ground is painted: what is painted from here on is ``structure``."""
        self._ground = self._image.copy()

    def structure(self) -> np.ndarray:
        """Return where something lies on the ground, bool [288, 384]."""
        # A pixel that had the same amounts before is hardly ever hit: no filling has the amounts of the ground.
        return (np.asarray(self._image) != np.asarray(self._ground)).any(axis=2)

    def lattice(self, spacing: float, jitter: float = 0.25) -> np.ndarray:
        """Return [n, 2] points of a jittered triangular lattice over the image and its margin."""
        step = spacing * self.scale
        rows = np.arange(-step, HEIGHT + step, step * 0.866)
        columns = np.arange(-step, WIDTH + step, step)
        x, y = np.meshgrid(columns + self.rng.uniform(0, step), rows)
        x = x + (np.arange(len(rows)) % 2)[:, None] * (step / 2)
        points = np.stack([x.ravel(), y.ravel()], axis=1)
        return points + self.rng.normal(0, jitter * step / 2, points.shape)

    def apart(self, count: int, distance: float) -> np.ndarray:
        """Return up to count [n, 2] random points that lie at least a distance from each other."""
        chosen = np.empty((0, 2))
        for point in self.rng.uniform([20, 20], [WIDTH - 20, HEIGHT - 20], (60, 2)):
            if np.all(np.hypot(*(chosen - point).T) > distance * self.scale):
                chosen = np.vstack([chosen, point])
            if len(chosen) == count:
                break
        return chosen

    def nuclei(self, centres, radius, *, length=1.3, angle=None, depth=110, variety=0.12) -> None:
        """Paint nuclei at [n, 2] centres: elongated, at the given angles or at random ones."""
        count = len(centres)
        angle = self.rng.uniform(0, np.pi, count) if angle is None else np.broadcast_to(angle, count)
        size = radius * self.scale * self.rng.lognormal(0, variety, (count, 1))
        theta = np.arange(9) * (2 * np.pi / 9)
        along, across = np.cos(theta) * size * np.sqrt(length), np.sin(theta) * size / np.sqrt(length)
        if variety > 0.2:  # pleomorphic: the outline itself is uneven
            along = along * self.rng.uniform(0.7, 1.3, along.shape)
        cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
        x = centres[:, :1] + along * cos - across * sin
        y = centres[:, 1:] + along * sin + across * cos
        depths = self.rng.normal(depth, 14, count).clip(60, 170).astype(int).tolist()
        for outline, amount in zip(np.stack([x, y], axis=-1).reshape(count, 18).tolist(), depths, strict=True):
            self._pen.polygon(outline, fill=(amount, 30, 0))

    def amounts(self) -> tuple[np.ndarray, np.ndarray]:
        """Return haematoxylin and eosin as optical density, float32 [288, 384] each."""
        blurred = self._image.filter(ImageFilter.GaussianBlur(0.7))
        painted = np.asarray(blurred, np.float32) / 100
        uneven = 1 + 0.10 * self.noise(12) + 0.08 * self.noise(90)
        waves = 1 + 0.55 * painted[..., 2] * self._fibres()
        return painted[..., 0] * uneven, painted[..., 1] * waves * uneven

    def noise(self, cells: int) -> np.ndarray:
        """Return smooth noise of about unit variance: a random grid, cells wide, enlarged."""
        grid = self.rng.normal(0, 1.3, (cells * HEIGHT // WIDTH, cells)).astype(np.float32)
        return np.asarray(Image.fromarray(grid).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))

    def _fibres(self) -> np.ndarray:
        """Return -1 to 1: wavy strands of collagen along the fibre angle."""
        y, x = np.ogrid[0:HEIGHT, 0:WIDTH]
        across = y * np.cos(self.fibre_angle) - x * np.sin(self.fibre_angle)
        phase = across.astype(np.float32) / (4.5 * self.scale) + 2.2 * self.noise(6) + 0.5 * self.noise(24)
        return np.sin(phase) * (0.6 + 0.4 * np.sin(phase * 0.37))
