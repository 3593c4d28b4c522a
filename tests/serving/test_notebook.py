"""The notebook docs/first_steps.ipynb: its cells run one after the other, and it is kept without their output."""

import json
import sys
from pathlib import Path

import matplotlib
import pytest

PAGE = Path("docs/first_steps.ipynb")
METRICS = {"accuracy": 0.5, "accuracy_ci95": [0.25, 0.75], "n": 8, "groups": 4, "confusion_matrix": [[1, 1, 0, 0]] * 4}


@pytest.fixture
def cells():
    return json.loads(PAGE.read_text())["cells"]


def test_the_notebook_is_kept_without_output(cells):
    for cell in cells:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None


@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")
def test_its_cells_run(cells, knowing, tmp_path, monkeypatch, capsys):
    matplotlib.use("Agg")
    (tmp_path / "metrics.json").write_text(json.dumps(METRICS))
    monkeypatch.chdir("docs")
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", str(Path.cwd().parent))])
    names = {"__name__": "__main__"}
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    places = {"saved_models/demo": knowing.parent, "runs/demo": tmp_path}
    for there, here in places.items():
        code = [source.replace(f'Path("{there}")', f"Path({str(here)!r})") for source in code]
    for source in code:
        exec(source, names)
    matplotlib.pyplot.close("all")
    said = capsys.readouterr().out
    assert "accuracy 0.500 (0.250 to 0.750), n = 8 of 4 patients" in said
    assert len(names["answers"]) == 4
    assert len(list((tmp_path / "first_steps").iterdir())) == 2
