"""Tables of users: the column that a name means."""

from datasets.table import find_column


def test_a_column_is_found_by_the_first_of_its_names_whatever_its_signs_and_case():
    assert find_column(["x", "Image Name", "PATH"], ("path", "imagename")) == 2
    assert find_column(["um/pixel", "um_per_pixel"], ("umperpixel",)) == 1
    assert find_column(["a"], ("b",)) is None
