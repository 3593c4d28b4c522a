"""What may import what, and how large a function or a file may be, read from the code itself."""

import ast
from pathlib import Path

import pytest

# The rooms of the project from the ground up. A room imports itself and rooms of lower floors, and so never one of its
# own floor: serving and training, for example, do not know each other.
FLOORS = (
    ("datasets", "callbacks", "bach_keras.known_lines"),
    (
        "bach_keras.tree",
        "bach_keras.fields",
        "bach_keras.wording",
        "bach_keras.normalisation",
        "bach_keras.provenance",
        "bach_keras.decoding",
        "bach_keras.onednn",
        "bach_keras.packed_kernels",
        "bach_keras.quiet",
        "bach_keras.signals",
        "bach_keras.cluster",
        "bach_keras.version_folder",
        "supply",
    ),
    ("bach_keras.preprocess", "bach_keras.network", "bach_keras.calibration", "bach_keras.export_files"),
    ("bach_keras.trunks", "bach_keras.joining"),
    ("bach_keras.hierarchy", "bach_keras.recipe"),
    ("bach_keras.run_fields", "bach_keras.run_changes", "bach_keras.run_place"),
    ("bach_keras.run_folder", "bach_keras.exported_members"),
    ("bach_keras.temperatures",),
    ("bach_keras.members",),
    ("bach_keras.evidence",),
    ("bach_keras.training", "bach_keras.serving"),
    ("bach_keras.doctor",),
    ("bach_keras.commands", "bach_keras.load"),
    ("cli",),
)
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
OURS = ("bach_keras", "benchmarks", "callbacks", "cli", "datasets", "docs", "supply", "tests")

MOST_PARAMETERS, MOST_LINES = 6, 330
# Each argument of these public callbacks is an option of its own, for any Keras project.
PUBLIC_CALLBACKS = {"LRRangeTest.__init__", "SGDR.__init__", "TensorBoard.__init__"}


@pytest.fixture(scope="module")
def product():
    """Return module name -> source."""
    root = Path(__file__).parent.parent
    paths = [
        root / "cli.py",
        *(path for room in ("bach_keras", "callbacks", "datasets") for path in (root / room).rglob("*.py")),
    ]
    names = [".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__") for path in paths]
    return dict(zip(names, (path.read_text() for path in paths), strict=True))


def room_of(module):
    """Return the room that a module, or a name in it, belongs to."""
    if module == "bach_keras":  # the package itself has nothing else, so what is in none of its rooms is in no room
        module = "bach_keras.load"
    parts = module.split(".")
    names = [".".join(parts[:count]) for count in range(len(parts), 0, -1)]
    return next((name for name in names if name in FLOOR_OF), None)


def imported(source):
    """Yield the names that a module imports, those within functions too; relative ones begin with a dot."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)


def breaches(sources):
    """Return what imports more than it may: one sentence for each."""
    found = []
    for module, source in sources.items():
        own = room_of(module)
        if own is None and source.strip():
            found.append(f"{module} is in no room")
            continue
        for name in imported(source):
            if name.split(".")[0] not in (*OURS, ""):
                continue
            other = room_of(name)
            if other is None or not (other == own or FLOOR_OF[other] < FLOOR_OF[own]):
                found.append(f"{module} imports {name}")
    return found


def functions(source):
    """Yield each function of a module with its name, such as ``SGDR.__init__``."""

    def inside(node, prefix):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield prefix + child.name, child
            is_named = isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            yield from inside(child, f"{prefix}{child.name}." if is_named else prefix)

    yield from inside(ast.parse(source), "")


def parameters(function):
    """Return the names of the parameters of a function, without ``self``, ``cls``, ``*args`` and ``**kwargs``."""
    given = function.args.posonlyargs + function.args.args + function.args.kwonlyargs
    return [parameter.arg for parameter in given if parameter.arg not in ("self", "cls")]


def too_many_parameters(sources):
    """Return the functions that take more than they may; commands take an option each."""
    return [
        f"{module}.{name} has {len(parameters(function))} parameters"
        for module, source in sources.items()
        if room_of(module) not in ("bach_keras.commands", "cli")
        for name, function in functions(source)
        if len(parameters(function)) > MOST_PARAMETERS
        and not (room_of(module) == "callbacks" and name in PUBLIC_CALLBACKS)
    ]


def test_imports_go_down_only(product):
    assert breaches(product) == []


def test_keras_cv_is_used_behind_augmentation_alone(product):
    users = [module for module, source in product.items() if any("keras_cv" in name for name in imported(source))]
    assert users == ["datasets.augment"]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("datasets.phantom", "from bach_keras import tree"),
        ("datasets.phantom", "from tests.few_phantoms import TINY"),
        ("callbacks.sgdr", "import datasets.labels"),
        ("bach_keras.serving.predict", "def late():\n    from bach_keras.training.train import train"),
        ("bach_keras.training.train", "if True:\n    import bach_keras.serving.card as card"),
        ("bach_keras.network.head", "from ..evidence import metrics"),
        ("bach_keras.evidence.metrics", "from cli import cli"),
        ("bach_keras.tree", "import bach_keras"),
        ("bach_keras.utils", "import os"),
    ],
)
def test_an_import_that_goes_up_or_sideways_is_found(module, source):
    assert len(breaches({module: source})) == 1


def test_no_function_has_more_than_six_parameters(product):
    assert too_many_parameters(product) == []


def test_keyword_only_parameters_and_those_of_inner_functions_count():
    assert too_many_parameters({"datasets.x": "class A:\n  def f(self, a, b, c, *d, e, f, g, **h): ..."}) == []
    many = "def f():\n  async def g(a, b, c, d, *, e, f, g): ..."
    assert too_many_parameters({"datasets.x": many}) == ["datasets.x.f.g has 7 parameters"]
    assert too_many_parameters({"bach_keras.commands.x": many}) == []


def test_no_file_is_long(product):
    lines = {module: source.count("\n") for module, source in product.items()}
    assert {module: count for module, count in lines.items() if count > MOST_LINES} == {}


def test_no_file_is_a_drawer_for_odds_and_ends(product):
    assert [module for module in product if module.split(".")[-1] in ("utils", "common", "helpers", "misc")] == []
