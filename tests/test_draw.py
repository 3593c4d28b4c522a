import re
from pathlib import Path

import pytest

from bach_keras.network.head import Classifier
from bach_keras.tree import NODES, ROOT
from docs.draw import draw_network, draw_tree


def test_every_name_of_the_tree_is_in_the_picture(tmp_path):
    draw_tree(tmp_path / "tree.svg")
    picture = (tmp_path / "tree.svg").read_text()
    for node in NODES.values():
        for name in (node.title, *node.classes):
            assert f">{name}</text>" in picture


def test_the_answers_of_the_root_are_drawn_once_each(tmp_path):
    draw_tree(tmp_path / "tree.svg")
    picture = (tmp_path / "tree.svg").read_text()
    assert [picture.count(f">{name}</text>") for name in ROOT.classes] == [1, 1]


def test_two_drawings_are_equal_byte_for_byte(tmp_path):
    for name in ("one.svg", "two.svg"):
        draw_tree(tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_an_unknown_kind_of_picture_is_refused_and_nothing_written(tmp_path):
    with pytest.raises(ValueError, match=r"tree\.docx cannot be drawn"):
        draw_tree(tmp_path / "tree.docx")
    assert not list(tmp_path.iterdir())


def test_the_network_is_drawn_from_its_layers(tmp_path):
    tiny = {"blocks": (2, 1, 1, 1), "cardinality": 3, "base_width": 4, "stem": 8}
    draw_network(tmp_path / "network.svg", Classifier(32, classes=5, backbone=tiny))
    picture = (tmp_path / "network.svg").read_text()
    texts = ("1x1, 12", "3x3, 12, 3 groups", "1x1, 32", "3x3, 24, 3 groups, stride 2", "1x1, 64, stride 2", "dense 5")
    assert [text for text in texts if f">{text}</text>" not in picture] == []
    assert picture.count(">+</text>") == 2


def test_the_picture_in_the_docs_is_of_this_network(tmp_path):
    draw_network(tmp_path / "network.svg")
    drawn, kept = ((folder / "network.svg").read_text() for folder in (tmp_path, Path("docs")))
    assert re.findall(r"<text[^>]*>([^<]*)", drawn) == re.findall(r"<text[^>]*>([^<]*)", kept) != []
