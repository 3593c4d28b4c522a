import io

from PIL import Image

from bach_keras.evidence.thumbnails import SIDE, thumbnails


def test_each_named_image_becomes_a_small_picture(few_phantoms):
    names = few_phantoms.files["test"][:2]
    found = thumbnails(few_phantoms, names)
    assert sorted(found) == names
    for content in found.values():
        with Image.open(io.BytesIO(content)) as picture:
            assert picture.format == "JPEG"
            assert max(picture.size) <= SIDE


def test_no_names_have_no_pictures(few_phantoms):
    assert thumbnails(few_phantoms, []) == {}
