"""The clients of docs/clients.md, run against ``serve``'s server, name the classes as the model's card orders them."""

import re
import sys
from pathlib import Path

import pytest

from bach_keras.serving.predict import predict_files

PAGE = Path(__file__).parents[3] / "docs" / "clients.md"


@pytest.mark.parametrize("number", [0, 1], ids=["REST", "gRPC"])
def test_a_client_of_the_page_answers_as_the_export_does(server, export, folder, number, monkeypatch, capsys):
    script = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)[number]
    for told, url in (("127.0.0.1:8501", server.rest_url), ("127.0.0.1:8500", server.grpc_url)):
        script = script.replace(told, url.partition("://")[2])
    paths = [str(folder / name) for name in ("0.png", "2.jpg", "3.bmp", "4.png", "5.tif")]
    monkeypatch.setattr(sys, "argv", ["client.py", *paths])
    exec(script, {})
    first, *lines, broken = capsys.readouterr().out.splitlines()
    assert first == f"classes {list(export.classes)} learned from ['phantom']"
    for line, row in zip(lines, predict_files(export, paths[:4]), strict=True):
        path, label, shares = line.split(" ", 2)
        assert (path, label) == (row["path"], row["label"])
        assert eval(shares) == pytest.approx(row["probabilities"], abs=1e-3)
    assert broken == f"{paths[4]} could not be decoded"
