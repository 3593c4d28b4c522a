"""Runs whose files were changed: each gets one sentence that names the file and the field, and nothing is started."""

import json
import shutil
import zipfile
from dataclasses import replace

import h5py
import keras
import numpy as np
import pytest
from click.testing import CliRunner

from bach_keras.evidence.evaluate import read_system
from bach_keras.evidence.metrics import KEYS
from bach_keras.hierarchy import Member
from bach_keras.members import load_member
from bach_keras.network.head import Classifier, weight_count
from bach_keras.preprocess import View
from bach_keras.run_fields import SCORES
from bach_keras.run_folder import Run
from bach_keras.training import checkpoint
from cli import cli
from tests.few_phantoms import TINY
from tests.trainings import job

HUGE = {"blocks": [200] * 4, "cardinality": 4096, "base_width": 4096, "stem": 4096}


@pytest.fixture
def run(tree_of_runs, tmp_path):
    return shutil.copytree(tree_of_runs["carci"], tmp_path / "carci")


def change_fields(file, **fields):
    """Change fields of a JSON file; a dot leads into an object, and ``...`` takes a field away."""
    values = json.loads(file.read_text())
    for path, value in fields.items():
        *parents, name = path.split(".")
        place = values
        for parent in parents:
            place = place[parent]
        if value is ...:
            del place[name]
        else:
            place[name] = value
    file.write_text(json.dumps(values))


CONFIG = [
    ("node", "nobody"), ("node", ["carci"]), ("node", {}), ("node", ...),
    ("config", 3), ("config", None), ("config", ""), ("config", "a\nb"), ("config", ...),
    ("protocol", {}), ("protocol", ...), ("init", 1), ("init", ...),
    ("temperature", 0), ("temperature", -1), ("temperature", float("nan")), ("temperature", float("inf")),
    ("temperature", 1e30), ("temperature", 1e-30), ("temperature", "1"), ("temperature", True), ("temperature", None),
    ("trained_on", "n001.tif"), ("trained_on", {"n001.tif": 1}), ("trained_on", [1, 2]), ("trained_on", None),
    ("trained_on", []), ("trained_on", ...), ("trained_on", ["a", None]), ("trained_on", [["n001.tif"]]),
    ("chosen_on", "n001.tif"), ("chosen_on", 3), ("chosen_on", ...), ("ancestors", "runs/x"), ("ancestors", [1]),
    ("pixels", ["a"]), ("pixels", {"a": 1}), ("pixels", {"a": "0123"}),
    ("split", []), ("split", ["n001.tif"]), ("split", {"train": "n001.tif"}), ("split", {"validation": {"a": 1}}),
    ("split", ...), ("split_origin", 3), ("split_origin.seed", "0"), ("split_origin.note", []),
    ("split_origin.patients_sha256", 3), ("split_origin.patients", {"b001.tif": 3}),
    ("versions", []), ("until", []), ("until", {"run": 3}), ("changes", 3),
    ("recipe", []), ("recipe", ...), ("recipe", None),
    ("recipe.image_size", "32"), ("recipe.image_size", 0), ("recipe.image_size", -32), ("recipe.image_size", 10**9),
    ("recipe.image_size", 32.5), ("recipe.image_size", True), ("recipe.image_size", [32]),
    ("recipe.batch_size", "4"), ("recipe.batch_size", float("nan")), ("recipe.batch_size", 10**10),
    ("recipe.cycles", 10**9), ("recipe.cycles", "2"), ("recipe.cycles", None), ("recipe.cycle_mult", 10**9),
    ("recipe.max_epochs", 10**12), ("recipe.seed", "0"), ("recipe.seed", -1), ("recipe.seed", 2**40),
    ("recipe.lr", "fast"), ("recipe.lr", -1), ("recipe.lr", float("inf")), ("recipe.momentum", "0.9"),
    ("recipe.momentum", 2), ("recipe.middle_multiplier", float("nan")), ("recipe.lr_bounds", 3),
    ("recipe.lr_bounds", [1]), ("recipe.lr_bounds", [1, "2"]), ("recipe.lr_bounds", [2, 1]), ("recipe.lr_bounds", None),
    ("recipe.warm_start", "no"), ("recipe.precision", "float8"), ("recipe.precision", {}), ("recipe.crops", "all"),
    ("recipe.stain_normalisation", "vahadane"), ("recipe.stain_normalisation", []), ("recipe.stain_jitter", "0"),
    ("recipe.class_weights", "equal"), ("recipe.class_weights", [1]), ("recipe.class_weights", [0, 1]),
    ("recipe.class_weights", [1, "3"]), ("recipe.class_weights", [1, float("nan")]), ("recipe.class_weights", None),
    ("recipe.unheard_of", 1), ("recipe.backbone", []), ("recipe.backbone", {"classes": 9}),
    ("recipe.backbone", {"blocks": "1111"}), ("recipe.backbone", {"blocks": [1]}),
    ("recipe.backbone", {"blocks": [1, 1, 1, "1"]}), ("recipe.backbone", {"stem": "8"}), ("recipe.backbone", HUGE),
    ("recipe.backbone", {**TINY, "cardinality": 0}), ("recipe.backbone", {**TINY, "blocks": [200] * 4}),
    ("recipe.cycles", 1000), ("pixels", {"unheard-of.png": "0123456789abcdef"}),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), CONFIG, ids=[f"{name}-{str(value)[:30]}" for name, value in CONFIG])
def test_a_field_of_config_json_that_is_wrong_is_named(run, field, value):
    change_fields(run / "config.json", **{field: value})
    with pytest.raises(
        ValueError, match=r"config\.json is not what a run writes \(.*\): train the run again"
    ) as raised:
        load_member("carci", str(run))
    assert str(run / "config.json") in str(raised.value)
    assert field.partition(".")[0] in str(raised.value)
    assert len(str(raised.value)) < 400 + len(str(run))


METRICS = [
    ("accuracy", float("nan")), ("accuracy", "1.0"), ("accuracy", 2), ("accuracy_ci95", [0]), ("accuracy_ci95", "ab"),
    ("accuracy_ci95", ...), ("n", "2"), ("n", ...), ("split", 3), ("split", ...), ("best_epoch", "1"),
    ("best_epoch", 0), ("best_epoch", 10**9), ("best_epoch", ...), ("epochs", None), ("node", "norbe"),
    ("kind", "system"), ("seconds", "long"), ("stains", 3), ("stains", {"train": {"method": "macenko", "left": {}}}),
    ("stains", {"train": {"method": "macenko", "left": {}, "of": {"benign": 2}}}),
    ("confusion_matrix", "4"), ("confusion_matrix", [[1]]), ("groups", 0), ("effective_n", ...), ("effective_n", "8"),
    ("kappa", -2), ("auroc", 1.5), ("brier", float("nan")), ("sensitivity", {"a": 2}), ("why", {"auroc": "a\n"}),
    ("reliability", [3]), ("reliability", [{"low": 0, "high": 1, "n": 0, "confidence": 1, "accuracy": 1}]),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), METRICS, ids=[f"{name}-{str(value)[:30]}" for name, value in METRICS])
def test_a_field_of_metrics_json_that_is_wrong_is_named(run, field, value):
    change_fields(run / "metrics.json", **{field: value})
    with pytest.raises(ValueError, match=r"metrics\.json is not what a run writes \(") as raised:
        load_member("carci", str(run))
    assert field in str(raised.value)


TEXTS = {
    "not UTF-8": b'{"node": "\xff"}',
    "cut": b'{"node": "carci"',
    "empty": b"",
    "a list": b"[]",
    "text": b'"carci"',
    "nothing": b"null",
    "nested deeply": b'{"node":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "a name twice": b'{"node": "carci", "node": "norbe"}',
    "a number of many digits": b'{"node": ' + b"9" * 10_000 + b"}",
    "huge": b'{"node": "' + b"x" * 2**25 + b'"}',
}


def test_metrics_from_before_patients_were_counted_are_read(run):
    own = json.loads((run / "metrics.json").read_text())
    older = {name: own[name] for name in own if name not in KEYS or name in SCORES}
    assert "groups" not in older
    (run / "metrics.json").write_text(json.dumps(older))
    assert load_member("carci", str(run)).metrics == older


@pytest.mark.parametrize("name", ["config.json", "metrics.json"])
@pytest.mark.parametrize("content", TEXTS.values(), ids=TEXTS)
def test_what_is_not_json_of_ours_gets_one_sentence(run, name, content):
    (run / name).write_bytes(content)
    with pytest.raises(ValueError, match="is not what a run writes") as raised:
        load_member("carci", str(run))
    assert str(run / name) in str(raised.value)
    assert len(str(raised.value)) < 400 + len(str(run))


def history_of(*rows):
    return lambda run: (run / "history.csv").write_text("\n".join(("epoch,phase,accuracy,loss", *rows)) + "\n")


HISTORIES = {
    "gone": lambda run: (run / "history.csv").unlink(),
    "empty": lambda run: (run / "history.csv").write_bytes(b""),
    "not UTF-8": lambda run: (run / "history.csv").write_bytes(b"epoch,loss\n1,\xff\n"),
    "no rows": history_of(),
    "rows missing": history_of("1,all,1,1"),
    "epochs missing": history_of("1,all,1,1", "3,all,1,1", "4,all,1,1"),
    "no number": history_of("1,all,1,1", "2,all,1,low", "3,all,1,1"),
    "short": history_of("1,all,1,1", "2", "3,all,1,1"),
    "long": history_of("1,all,1,1,1", "2,all,1,1", "3,all,1,1"),
    "no loss": lambda run: (run / "history.csv").write_text("epoch,accuracy\n1,1\n2,1\n3,1\n"),
}


@pytest.mark.parametrize("change", HISTORIES.values(), ids=HISTORIES)
def test_a_history_without_its_best_epoch_is_refused(run, change):
    change_fields(run / "metrics.json", best_epoch=3)
    change(run)
    with pytest.raises(ValueError, match=r"history\.csv is not what a run writes \("):
        Run.open(run).loss_to_reach("carci")


@pytest.fixture
def network(run):
    return Run.open(run).read_model()


def changed(path, change):
    """Write a ``model.keras`` or a ``.weights.h5`` again, its HDF5 file changed."""
    if path.suffix != ".keras":
        with h5py.File(path, "a") as file:
            change(file)
        return
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    inner = path.with_name("inner.h5")
    inner.write_bytes(parts["model.weights.h5"])
    with h5py.File(inner, "a") as file:
        change(file)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, inner.read_bytes() if name == "model.weights.h5" else content)


KERNEL = "layers/convolution/vars/0"
VARIANCE = "layers/batch_norm/vars/3"


def put(path, make):
    def change(file):
        held = file[path][()]
        del file[path]
        make(file, held)

    return change


def claim_billions(file, held):
    h5py.h5d.create(file["layers/convolution/vars"].id, b"0", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((10**9,)))


def link(to):
    return lambda file, held: file.__setitem__(KERNEL, to)


NUMBERS = {
    "a billion numbers": put(KERNEL, claim_billions),
    "a compressed billion": put(KERNEL, lambda f, held: f.create_dataset(KERNEL, (10**9,), "f4", compression="gzip")),
    "another shape": put(KERNEL, lambda f, held: f.__setitem__(KERNEL, held[..., :-1])),
    "another type": put(KERNEL, lambda f, held: f.__setitem__(KERNEL, held.astype("f8"))),
    "an external link": put(KERNEL, link(h5py.ExternalLink("/etc/passwd", "/"))),
    "a soft link": put(KERNEL, link(h5py.SoftLink("/layers/dense/vars/0"))),
    "a group": put(KERNEL, lambda f, held: f.create_group(KERNEL)),
    "a tensor gone": put(KERNEL, lambda f, held: None),
    "no layers": lambda file: file.__delitem__("layers"),
    "no number": lambda file: file[KERNEL].__setitem__(..., np.nan),
    "an infinite number": lambda file: file[VARIANCE].__setitem__(0, np.inf),
    "a variance below 0": lambda file: file[VARIANCE].__setitem__(0, -1),
}


@pytest.mark.parametrize("name", ["model.keras", "snapshots/best.weights.h5"])
@pytest.mark.parametrize("change", NUMBERS.values(), ids=NUMBERS)
def test_weights_that_are_not_the_runs_are_refused(run, name, change):
    changed(run / name, change)
    spec = run if name == "model.keras" else run / "snapshots/best"
    with pytest.raises(ValueError, match="rain the run again") as raised:
        load_member("carci", str(spec))
    assert str(run / name) in str(raised.value)


def archived(change):
    """Change the members of a model.keras, given as name -> bytes."""

    def work(path):
        with zipfile.ZipFile(path) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        change(parts)
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in parts.items():
                archive.writestr(name, content)

    return work


def inner_config(**fields):
    def change(parts):
        config = json.loads(parts["config.json"])
        config["config"] |= {name: value for name, value in fields.items() if name in config["config"]}
        config |= {name: value for name, value in fields.items() if name not in config["config"]}
        parts["config.json"] = json.dumps(config).encode()

    return archived(change)


def with_lambda(path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Lambda(lambda x: x + 1), keras.layers.Dense(500_000)])
    model.save(path)


def compressed(path):
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


ARCHIVES = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size - 1000]),
    "no archive": lambda path: path.write_bytes(b"x" * path.stat().st_size),
    "too small": lambda path: path.write_bytes(b"PK\x03\x04"),
    "a Lambda": with_lambda,
    "another class": inner_config(class_name="Lambda"),
    "another size": inner_config(image_size=64),
    "other classes": inner_config(classes=4),
    "another backbone": inner_config(backbone={}),
    "no config": archived(lambda parts: parts.pop("config.json")),
    "a config of text": archived(lambda parts: parts.update({"config.json": b'"x"'})),
    "a config nested deeply": archived(lambda parts: parts.update({"config.json": b'{"x":' + b"[" * 99_999})),
    "no weights": archived(lambda parts: parts.update({"model.weights.h5": b"", "filler": b"0" * 2_000_000})),
    "too many weights": archived(lambda parts: parts.update({"model.weights.h5": b"0" * 40_000_000})),
    "compressed": compressed,
}


@pytest.mark.parametrize("change", ARCHIVES.values(), ids=ARCHIVES)
def test_a_model_keras_of_something_else_is_refused(run, change):
    change(run / "model.keras")
    with pytest.raises(ValueError, match="rain the run again") as raised:
        load_member("carci", str(run))
    assert str(run / "model.keras") in str(raised.value)
    assert len(str(raised.value)) < 600


def test_a_run_is_read_as_keras_reads_it(run):
    read, loaded = Run.open(run).read_model(), keras.saving.load_model(run / "model.keras", compile=False)
    assert isinstance(loaded, Classifier)
    for one, other in zip(read.weights, loaded.weights, strict=True):
        assert one.path.split("/")[-2:] == other.path.split("/")[-2:]
        np.testing.assert_array_equal(one, other)
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    np.testing.assert_array_equal(read(images, training=False), loaded(images, training=False))
    Run.open(run).load_snapshot(read, "cycle-0-1")
    loaded.load_weights(run / "snapshots/cycle-0-1.weights.h5")
    for one, other in zip(read.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_run_of_an_older_recipe_is_read_with_what_it_did_not_say(run):
    for field in ("brightness", "precision", "accumulate", "stain_normalisation"):
        change_fields(run / "config.json", **{f"recipe.{field}": ...})
    change_fields(run / "config.json", split_origin=..., tensorboard=..., images_sha256=...)
    assert load_member("carci", str(run)).view.stain_normalisation == "none"


@pytest.mark.parametrize("backbone", [{}, TINY, {"blocks": (1, 2, 1, 1), "stem": 16, "cardinality": 4}])
def test_weights_are_counted_without_making_the_network(backbone):
    assert weight_count(**backbone) == Classifier(32, backbone=backbone).count_params()


@pytest.mark.parametrize(
    ("field", "value"),
    [(name, value) for name in ("temperature", "weight") for value in (0, -1.0, float("nan"), float("inf"), 1e30)],
)
def test_a_member_is_never_divided_or_weighed_by_nonsense(network, field, value):
    member = Member("carci", network, View(32))
    with pytest.raises(ValueError, match=f"The {field} of carci must be from"):
        replace(member, **{field: value})


def cli_says(*words):
    result = CliRunner().invoke(cli, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert "Traceback" not in result.output
    return result


def test_each_command_that_takes_a_run_says_which_file_is_wrong(run, tree_of_runs, tmp_path):
    change_fields(run / "config.json", temperature=0)
    members = ["--carci", run, "--norbe", tree_of_runs["norbe"], "--invis", tree_of_runs["invis"]]
    train = ["train", "--node", "norbe", "--config", "phantom", "--run-dir", tmp_path / "new"]
    for words in (
        ["evaluate", *members, "--config", "phantom", "--out", tmp_path / "out"],
        ["export", *members, "--out", tmp_path / "model/1"],
        ["export", *members, "--tflite", tmp_path / "tree.tflite"],
        ["parity", *members, "--model", tmp_path, tree_of_runs["carci"] / "lr_range_test.png"],
        [*train, "--init", run],
        [*train, "--init", f"best:{run}"],
        [*train, "--protocol", "all", "--until", run],
        ["train", "--node", "carci", "--run-dir", run, "--resume"],
    ):
        result = cli_says(*words)
        assert result.exit_code == 2, words
        assert f"{run / 'config.json'} is not what a run writes (temperature must be" in " ".join(result.output.split())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["carci"]


def state_of(run, words, *arrays):
    np.savez(run / "state.npz", *arrays, words=np.array(words if isinstance(words, str) else json.dumps(words)))


WORDS = {"epoch": 1, "peak": 0.1, "phase": "all", "history": [{}], "best": {}, "seconds": 1.0, "reached": False}
STATES = {
    "cut": lambda run: (run / "state.npz").write_bytes(b"PK\x03\x04"),
    "no archive": lambda run: (run / "state.npz").write_bytes(b"x" * 100),
    "objects": lambda run: np.savez(run / "state.npz", np.array([{}], object), words=np.array(json.dumps(WORDS))),
    "no words": lambda run: np.savez(run / "state.npz", np.zeros(3)),
    "words of a list": lambda run: state_of(run, []),
    "words nested deeply": lambda run: state_of(run, "[" * 100_000),
    "an epoch of text": lambda run: state_of(run, WORDS | {"epoch": "1"}),
    "no peak": lambda run: state_of(run, WORDS | {"peak": float("nan")}),
    "more than it has": lambda run: state_of(run, WORDS | {"unheard_of": 1}),
}


@pytest.mark.parametrize("change", STATES.values(), ids=STATES)
def test_a_state_that_cannot_be_resumed_from_says_so(run, change):
    change(run)
    with pytest.raises(ValueError, match=r"state\.npz cannot be resumed from \(.*\): start again with --overwrite"):
        checkpoint.load(Run.open(run))


def test_a_state_of_another_network_says_so(run, network):
    state_of(run, WORDS, np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="is of another network"):
        checkpoint.load(Run.open(run)).restore_weights(network)


SYSTEM = {
    "kind": "system", "n": 2, "accuracy": 0.5, "accuracy_ci95": [0.1, 0.9], "balanced_accuracy": 0.5,
    "balanced_accuracy_ci95": [0.1, 0.9], "confusion_matrix": [[1, 0, 0, 0]] * 4, "nodes": {}, "chosen_on": 0,
    "config": "phantom", "protocol": "patient", "split": "test", "split_notes": [], "members": ["a"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("accuracy", None), ("accuracy_ci95", [0.1]), ("confusion_matrix", [[1]]), ("members", "a"), ("nodes", []),
        ("nodes", {"carci": {"accuracy": 1}}), ("chosen_on", "none"), ("stains", {"method": "macenko"}), ("split", 1),
    ],
)  # fmt: skip
def test_an_evaluation_that_was_changed_is_refused_by_field(tmp_path, field, value):
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(SYSTEM))
    assert read_system(path) == SYSTEM
    path.write_text(json.dumps(SYSTEM | {field: value}))
    with pytest.raises(ValueError, match=rf"metrics\.json is not what an evaluation writes \({field}"):
        read_system(path)


def test_a_split_of_images_that_are_not_there_is_refused(few_phantoms, tmp_path):
    files = few_phantoms.files | {"train": [*few_phantoms.files["train"], "\x1b[2Jgone.tif"]}
    with pytest.raises(ValueError, match=r"names 1 images that config phantom does not hold, such as '\\x1b\[2Jgone"):
        job(tmp_path, data=replace(few_phantoms, files=files)).files  # noqa: B018 - asking for them is what fails
