from pathlib import Path

import pytest

from datasets.own.names import name_for


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/data/Clinic A (2024)", "clinic-a-2024"),
        ("/data/images/", "images"),
        ("/data/images/labels.csv", "images"),
        ("/data/images/Scored.CSV", "scored"),
        ("/data/v1.2", "v1-2"),
    ],
)
def test_a_set_without_a_name_is_called_as_its_source(source, name):
    assert name_for(Path(source)) == name
