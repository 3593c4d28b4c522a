import keras
import numpy as np
import pytest
import tensorflow as tf

from datasets.augment import DRAW_COUNT, DRAWS, Brightness, RandomView, StainJitter, uniform_draws
from datasets.phantom import EOSIN, HAEMATOXYLIN

SIZE = 16
# angle, hand, scale, right, down
IDENTITY = (0.0, 0.75, 0.5, 0.5, 0.5)
LAYERS = [RandomView(SIZE), RandomView(SIZE, crops="three"), StainJitter(0.2), Brightness(0.2)]
each_layer = pytest.mark.parametrize("layer", LAYERS, ids=["view", "three crops", "stain jitter", "brightness"])


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def apply(layer, images, draws):
    return layer({"images": tf.constant(images), DRAWS: tf.constant(draws, tf.float32)})["images"]


def view(image, draws, **options):
    """The view of one image by the view's own draws."""
    return apply(RandomView(SIZE, **options), image, [*draws, *[0.5] * (DRAW_COUNT - len(draws))])


def test_identity_draw_is_the_centre_crop():
    image = noise(SIZE, SIZE + 6, 3)
    np.testing.assert_allclose(view(image, IDENTITY, smallest=1.0), image[:, 3:-3], atol=1e-2)


@pytest.mark.parametrize(
    ("draws", "expected"),
    [
        ((0.0, 0.25, 0.5, 0.5, 0.5), lambda image: image[:, ::-1]),
        ((0.25, 0.75, 0.5, 0.5, 0.5), lambda image: np.rot90(image, 1)),
        ((0.5, 0.75, 0.5, 0.5, 0.5), lambda image: np.rot90(image, 2)),
        ((0.25, 0.25, 0.5, 0.5, 0.5), lambda image: np.transpose(np.rot90(image, 2), (1, 0, 2))),
    ],
    ids=["mirror", "quarter turn", "half turn", "reflected turn"],
)
def test_turns_and_reflections_are_exact(draws, expected):
    image = noise(SIZE, SIZE, 3)
    np.testing.assert_allclose(view(image, draws, smallest=1.0), expected(image), atol=0.05)


@pytest.mark.parametrize(("right", "left"), [(0.0, 0), (1.0, 6)])
def test_window_moves_from_border_to_border(right, left):
    image = noise(SIZE, SIZE + 6, 3)
    draws = (0.0, 0.75, 0.5, right, 0.5)
    np.testing.assert_allclose(view(image, draws, smallest=1.0), image[:, left : left + SIZE], atol=1e-2)


def test_smallest_window_enlarges():
    ramp = np.tile(np.arange(32, dtype=np.float32)[None, :, None], (32, 1, 3))
    draws = (0.0, 0.75, 0.0, 0.5, 0.5)
    columns = view(ramp, draws, smallest=0.5)[0, :, 0].numpy()
    np.testing.assert_allclose(np.diff(columns), 0.5, atol=1e-4)
    assert columns.mean() == pytest.approx(15.5)


def test_borders_are_filled_by_tissue():
    image = np.full((SIZE, SIZE, 3), 200, np.uint8)
    np.testing.assert_allclose(view(image, (0.125, 0.75, 1.0, 0.0, 0.0)), 200, atol=1e-2)


def bilinear(image, x, y):
    """The value between the pixels at a place, those outside taken by reflection at the border."""

    def pixel(column, row):
        height, width = image.shape[:2]
        column, row = column % (2 * width), row % (2 * height)
        return image[min(row, 2 * height - 1 - row), min(column, 2 * width - 1 - column)].astype(float)

    left, top = int(np.floor(x)), int(np.floor(y))
    right, low = x - left, y - top
    above = (1 - right) * pixel(left, top) + right * pixel(left + 1, top)
    below = (1 - right) * pixel(left, top + 1) + right * pixel(left + 1, top + 1)
    return (1 - low) * above + low * below


@pytest.mark.parametrize("draws", [(0.08, 0.9, 0.3, 0.1, 0.8), (0.62, 0.2, 1.0, 0.95, 0.0)])
def test_any_view_against_plain_python(draws):
    """Walk back from each pixel of the answer to its place in the image."""
    image = noise(SIZE + 2, SIZE + 6, 3)
    height, width = image.shape[:2]
    turn, hand, scale = 2 * np.pi * draws[0], 1 if draws[1] >= 0.5 else -1, 0.8 + 0.2 * draws[2]
    x = (width - 1) / 2 + (draws[3] - 0.5) * (width - scale * SIZE)
    y = (height - 1) / 2 + (draws[4] - 0.5) * (height - scale * SIZE)
    expected = np.zeros((SIZE, SIZE, 3))
    for row in range(SIZE):
        for column in range(SIZE):
            across, down = hand * scale * (column - (SIZE - 1) / 2), scale * (row - (SIZE - 1) / 2)
            place = x + across * np.cos(turn) - down * np.sin(turn), y + across * np.sin(turn) + down * np.cos(turn)
            expected[row, column] = bilinear(image, *place)
    np.testing.assert_allclose(view(image, draws), expected, atol=0.05)


@pytest.mark.parametrize(("draw", "start"), [(0.1, 0), (0.32, 0), (0.35, 3), (0.65, 3), (0.68, 6), (0.99, 6)])
def test_three_crops_are_left_centre_and_right(draw, start):
    wide = noise(SIZE, SIZE + 6, 3)
    found = view(wide, (0.0, 0.75, 0.5, draw, 0.5), smallest=1.0, crops="three")
    np.testing.assert_allclose(found, wide[:, start : start + SIZE], atol=1e-2)
    tall = wide.transpose(1, 0, 2)
    found = view(tall, (0.0, 0.75, 0.5, 0.5, draw), smallest=1.0, crops="three")
    np.testing.assert_allclose(found, tall[start : start + SIZE], atol=1e-2)


def test_unknown_crops():
    with pytest.raises(ValueError, match="'four': choose one of any, three"):
        RandomView(SIZE, crops="four")


def test_stain_jitter_against_plain_numpy():
    images, draws = noise(2, 8, 9, 3), np.random.default_rng(1).uniform(size=(2, DRAW_COUNT))
    stains = np.array([HAEMATOXYLIN, EOSIN, np.cross(HAEMATOXYLIN, EOSIN)])
    stains /= np.linalg.norm(stains, axis=1, keepdims=True)
    for found, image, draw in zip(apply(StainJitter(0.2), images, draws), images, draws, strict=True):
        amounts = np.linalg.solve(stains.T, -np.log(np.maximum(image, 1) / 255).reshape(-1, 3).T)
        change = 0.2 * (2 * draw[5:9] - 1)
        amounts[:2] = (1 + change[:2, None]) * amounts[:2] + change[2:, None]
        expected = np.minimum(255 * np.exp(-stains.T @ amounts), 255).T.reshape(image.shape)
        np.testing.assert_allclose(found, expected, atol=1e-2)
        assert np.abs(found - image).mean() > 2


def test_brightness_against_plain_numpy():
    images, draws = noise(2, 8, 9, 3), np.full((2, DRAW_COUNT), 0.5)
    draws[:, 9] = 0.0, 1.0
    expected = [images[0] * 0.75, np.minimum(images[1] * 1.25, 255)]
    np.testing.assert_allclose(apply(Brightness(0.25), images, draws), expected, atol=1e-3)


@pytest.mark.parametrize("layer", [StainJitter(0.2), Brightness(0.2)])
def test_middle_draws_leave_the_colours(layer):
    image = np.maximum(noise(8, 9, 3), 1)
    np.testing.assert_allclose(apply(layer, image, np.full(DRAW_COUNT, 0.5)), image, atol=1e-2)


@each_layer
def test_same_draws_give_the_same_image_eagerly_and_in_a_data_set(layer):
    images = noise(3, 20, 24, 3)
    draws = np.random.default_rng(1).uniform(size=(3, DRAW_COUNT)).astype(np.float32)
    data = tf.data.Dataset.from_tensor_slices({"images": images, DRAWS: draws})
    alone = list(data.map(lambda row: layer(row)["images"]).as_numpy_iterator())
    batched = next(data.batch(3).map(lambda rows: layer(rows)["images"]).as_numpy_iterator())
    eager = [apply(layer, image, row) for image, row in zip(images, draws, strict=True)]
    np.testing.assert_allclose(alone, eager, atol=1e-3)
    np.testing.assert_allclose(batched, eager, atol=1e-3)


def test_the_same_seed_gives_the_same_draws():
    first, again, other = (uniform_draws(5, tf.constant(seed, tf.int64)) for seed in ((3, 1), (3, 1), (3, 2)))
    np.testing.assert_array_equal(first, again)
    assert first.shape == (5, DRAW_COUNT)
    assert len(np.unique([first, other])) == 10 * DRAW_COUNT


def test_other_draws_give_another_image():
    image = noise(20, 24, 3)
    changed = [0.1, 0.3, 0.9, 0.9, 0.1]
    plain = view(image, IDENTITY).numpy()
    for place, value in enumerate(changed):
        draws = [*IDENTITY[:place], value, *IDENTITY[place + 1 :]]
        assert np.abs(view(image, draws) - plain).max() > 5


@each_layer
def test_answer_is_float32_and_other_entries_pass_through(layer):
    entries = {
        "images": noise(2, 20, 24, 3),
        DRAWS: np.full((2, DRAW_COUNT), 0.5),
        "labels": np.array([3, 4]),
    }
    answer = layer(entries)
    shape = (2, SIZE, SIZE, 3) if isinstance(layer, RandomView) else (2, 20, 24, 3)
    assert (answer["images"].dtype, tuple(answer["images"].shape)) == (tf.float32, shape)
    np.testing.assert_array_equal(answer["labels"], [3, 4])


def test_layers_come_back_from_their_configuration():
    again = RandomView.from_config(RandomView(SIZE, smallest=0.6, crops="three").get_config())
    assert (again.size, again.smallest, again.crops) == (SIZE, 0.6, "three")
    for layer in (StainJitter(0.3), Brightness(0.3)):
        assert type(layer).from_config(layer.get_config()).amount == 0.3


def layer_after_layer(images, draws):
    for layer in (RandomView(SIZE), StainJitter(0.2), Brightness(0.2)):
        images = apply(layer, images, draws)
    return images


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_leaves_the_pictures_alone(policy):
    images, draws = noise(3, SIZE + 2, SIZE + 6, 3), uniform_draws(3, (1, 2))
    expected = layer_after_layer(images, draws)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        pictures = layer_after_layer(images, draws)
    finally:
        keras.config.set_dtype_policy(before)
    assert pictures.dtype == tf.float32
    np.testing.assert_array_equal(pictures, expected)
