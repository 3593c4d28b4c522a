import pytest
from click.testing import CliRunner

from cli import cli


@pytest.mark.usefixtures("tiny_configs")
def test_preparing_a_data_set_says_how_many_of_each_class_would_be_left_as_they_are(tmp_path, bisque_root):
    asked = ["data", "prepare", "--config", "bisque", "--source", str(bisque_root), "--data-dir", str(tmp_path)]
    first, again = (CliRunner().invoke(cli, asked).stdout for _ in range(2))
    for method in ("macenko", "reinhard"):
        assert f"stain normalisation: {method}" in first
    assert "stain normalisation" not in again
