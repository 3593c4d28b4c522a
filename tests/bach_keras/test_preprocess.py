import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from bach_keras import preprocess
from bach_keras.decoding import jpeg, png
from bach_keras.tree import VIEWS
from datasets.images import png as png_format
from datasets.images.admission import MAX_PIXELS


def noise(height, width, depth=3):
    return np.random.default_rng(0).integers(0, 256, (height, width, depth), np.uint8)


def smooth(height, width):
    """Coarse noise drawn large: structure that survives scaling, as tissue does."""
    coarse = Image.fromarray(noise(8, 8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_lossless_formats_decode_exactly(kind):
    pixels = noise(5, 7)
    decoded = preprocess.decode(encoded(Image.fromarray(pixels), kind))
    assert decoded.dtype == tf.uint8
    np.testing.assert_array_equal(decoded, pixels)


@pytest.mark.parametrize("height", [1, 2, 301])
def test_the_png_of_a_prepared_record_decodes_exactly(height):
    pixels = noise(height, 41)
    data = png_format.encode(pixels)
    np.testing.assert_array_equal(preprocess.decode(data), pixels)
    np.testing.assert_array_equal(tf.io.decode_png(data), pixels)


@pytest.mark.parametrize("quality", [30, 75, 95])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_jpeg_decodes_as_pillow_does(quality, subsampling):
    data = encoded(Image.fromarray(smooth(40, 56)), "JPEG", quality=quality, subsampling=subsampling)
    np.testing.assert_array_equal(preprocess.decode(data), Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_grey_becomes_rgb(kind):
    grey = Image.fromarray(smooth(16, 24)).convert("L")
    decoded = preprocess.decode(encoded(grey, kind)).numpy()
    assert decoded.shape == (16, 24, 3)
    assert (decoded == decoded[..., :1]).all()
    assert np.abs(decoded[..., 0].astype(int) - np.asarray(grey)).max() < 30


def test_palette_becomes_rgb():
    palette = Image.fromarray(noise(5, 7)).quantize(16)
    np.testing.assert_array_equal(preprocess.decode(encoded(palette, "PNG")), palette.convert("RGB"))


def test_transparency_is_laid_on_white():
    pixels = noise(5, 7, 4)
    pixels[0, :3, 3] = 0, 255, 51
    decoded = preprocess.decode(encoded(Image.fromarray(pixels), "PNG")).numpy()
    alpha = pixels[..., 3:] / 255
    np.testing.assert_array_equal(decoded, np.floor(pixels[..., :3] * alpha + 255 * (1 - alpha) + 0.5))
    assert decoded[0, 0].tolist() == [255, 255, 255]
    assert decoded[0, 1].tolist() == pixels[0, 1, :3].tolist()


def test_the_fourth_byte_of_a_bmp_says_nothing():
    pixels = noise(5, 7, 4)
    np.testing.assert_array_equal(preprocess.decode(encoded(Image.fromarray(pixels), "BMP")), pixels[..., :3])


@pytest.mark.parametrize(("mode", "bits"), [("RGB", 24), ("RGBA", 32)])
def test_bmp_of_24_and_32_bits_is_taken(mode, bits):
    picture = Image.fromarray(noise(5, 7)).convert(mode)
    data = encoded(picture, "BMP")
    assert int.from_bytes(data[28:30], "little") == bits
    np.testing.assert_array_equal(preprocess.decode(data), picture.convert("RGB"))


@pytest.mark.parametrize("mode", ["P", "L", "1"])
@pytest.mark.parametrize("decode", [preprocess.decode, tf.function(preprocess.decode)], ids=["eager", "graph"])
def test_bmp_with_a_palette_has_its_colours(mode, decode):
    """TensorFlow's own decoder takes the numbers of the colours for the colours."""
    picture = Image.fromarray(noise(5, 7)).convert(mode)
    np.testing.assert_array_equal(decode(tf.constant(encoded(picture, "BMP"))), picture.convert("RGB"))


def refused():
    picture = Image.fromarray(noise(40, 40))
    whole, photo = encoded(picture, "PNG"), encoded(picture, "JPEG")
    return {
        "16-bit PNG": encoded(Image.fromarray(np.full((4, 4), 40_000, np.uint16)), "PNG"),
        "GIF": encoded(picture, "GIF"),
        "text": b"slide,label\n1,benign\n",
        "empty": b"",
        "PNG cut in its pixels": whole[: len(whole) // 2],
        "PNG cut in its header": whole[:20],
        "JPEG cut in its header": photo[:20],
        "JPEG cut in its pixels": photo[: len(photo) // 2],
        "BMP cut in its pixels": encoded(picture, "BMP")[:-100],
        "BMP cut in its header": b"BM" + bytes(10),
        "BMP cut before its bits": encoded(picture, "BMP")[:28],
        "PNG of too many pixels": whole[:16] + (50_000).to_bytes(4, "big") * 2 + whole[24:],
    }


@pytest.mark.parametrize("case", refused())
@pytest.mark.parametrize("decode", [preprocess.decode, tf.function(preprocess.decode)], ids=["eager", "graph"])
def test_what_is_no_readable_image_is_refused(case, decode):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode(tf.constant(refused()[case]))


@pytest.mark.parametrize(
    ("height", "width", "answer"),
    [(1536, 2048, (288, 384)), (2048, 1536, (384, 288)), (100, 100, (288, 288)), (301, 457, (288, 437))],
)
def test_shorter_side_is_exact(height, width, answer):
    resized = preprocess.resize_shorter(tf.zeros((height, width, 3), tf.uint8), 288)
    assert (tuple(resized.shape), resized.dtype) == ((*answer, 3), tf.uint8)


def test_resize_agrees_with_pillow():
    pixels = smooth(192, 256)
    expected = np.asarray(Image.fromarray(pixels).resize((64, 48), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(preprocess.resize_shorter(pixels, 48).numpy() - expected).max() <= 1


def test_centre_crop_takes_the_middle():
    pixels = noise(6, 10)
    np.testing.assert_array_equal(preprocess.centre_crop(tf.constant(pixels), 4), pixels[1:5, 3:7])


def test_a_batch_equals_its_images():
    batch = np.stack([smooth(60, 80), noise(60, 80)])
    together = preprocess.square(batch, 32)
    assert together.shape == (2, 32, 32, 3)
    for one, image in zip(together, batch, strict=True):
        np.testing.assert_array_equal(one, preprocess.square(image, 32))


def test_normalise_by_hand():
    normal = preprocess.normalise(tf.constant([[0, 255, 51]], tf.uint8))
    expected = [[-0.485 / 0.229, (1 - 0.456) / 0.224, (0.2 - 0.406) / 0.225]]
    assert normal.dtype == tf.float32
    np.testing.assert_allclose(normal, expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_squares_are_normalised_to_the_same_bits(dtype):
    squares = np.stack([noise(40, 40), smooth(40, 40)]).astype(dtype) * dtype(0.7 if dtype == np.float32 else 1)
    mapped = tf.data.Dataset.from_tensors(squares).map(preprocess.normalise_squares).get_single_element()
    for found in (mapped, preprocess.normalise_squares(tf.constant(squares))):
        np.testing.assert_array_equal(found, preprocess.normalise(squares))


@pytest.mark.parametrize(("decode", "kind"), [(jpeg.decode, "DecodeJpeg"), (png.decode, "DecodePng")])
def test_a_graph_unpacks_nothing_before_its_pixels_are_counted(decode, kind):
    graph = tf.function(decode, autograph=False).get_concrete_function(tf.TensorSpec([], tf.string)).graph
    bodies = {body.signature.name: body.node_def for body in graph.as_graph_def().library.function}

    def unpacks(operation):
        branches = ("then_branch", "else_branch") if operation.type in ("If", "StatelessIf") else ()
        inside = [node.op for name in branches for node in bodies[operation.get_attr(name).name]]
        return kind in (operation.type, *inside)

    decoders = [operation for operation in graph.get_operations() if unpacks(operation)]
    assert decoders
    for decoder in decoders:
        waited_for, waiting = {}, [decoder]
        while waiting:
            operation = waiting.pop()
            before = [*operation.control_inputs, *(tensor.op for tensor in operation.inputs)]
            waiting += [other for other in before if other.name not in waited_for]
            waited_for |= {other.name: other for other in before}
        checks = [operation for operation in waited_for.values() if operation.type == "Assert"]
        messages = [check.inputs[1].op.get_attr("value").string_val[0] for check in checks]
        assert f"An image may have 1 to {MAX_PIXELS} pixels, and not:".encode() in messages


def rotations(square):
    """The eight symmetries of a square by NumPy, in the order of ``views_of``."""
    return [np.rot90(each, turns) for each in (square, square[:, ::-1]) for turns in range(4)]


@pytest.mark.parametrize(("height", "width"), [(40, 64), (64, 40), (32, 32), (32, 96), (37, 71)])
def test_each_view_is_a_turned_or_mirrored_square(height, width):
    pixels, size = noise(height, width), 32
    resized = preprocess.resize_shorter(pixels, size).numpy()
    tall, wide = (side - size for side in resized.shape[:2])
    squares = [
        resized[tall * place // 2 : tall * place // 2 + size, wide * place // 2 : wide * place // 2 + size]
        for place in range(3)
    ]
    for count, of in ((1, squares[1:2]), (8, squares[1:2]), (24, squares)):
        found = preprocess.views_of(preprocess.part(pixels, size, count), size, count).numpy()
        expected = np.stack([view for square in of for view in rotations(square)])[:count]
        np.testing.assert_array_equal(found, expected)
    assert len(np.unique(found, axis=0)) == (8 if height == width else 24)


@pytest.mark.parametrize("views", VIEWS)
@pytest.mark.parametrize(("height", "width"), [(40, 64), (64, 41), (33, 33)])
def test_the_part_of_a_part_is_the_part_itself(views, height, width):
    once = preprocess.part(np.stack([noise(height, width)] * 2), 32, views)
    assert once.shape == (2, 32, preprocess.part_width(32, views), 3)
    np.testing.assert_array_equal(preprocess.part(once, 32, views), once)


def test_the_part_for_one_view_is_the_square():
    pixels = noise(41, 67)
    for views in (1, 8):
        np.testing.assert_array_equal(preprocess.part(pixels, 32, views), preprocess.square(pixels, 32))
    np.testing.assert_array_equal(
        preprocess.centre_crop(preprocess.part(pixels, 32, 24), 32), preprocess.square(pixels, 32)
    )


def test_the_parts_in_a_graph_are_those_in_python():
    graph = tf.function(
        lambda pixels: preprocess.part(pixels, 32, 24), input_signature=[tf.TensorSpec((None, None, 3), tf.uint8)]
    )
    for height, width in ((40, 64), (64, 40)):
        np.testing.assert_array_equal(graph(noise(height, width)), preprocess.part(noise(height, width), 32, 24))
