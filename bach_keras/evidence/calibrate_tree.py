"""A tree calibrated on validation images: a temperature for each of its runs, and thresholds for the whole."""

import logging
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bach_keras import temperatures
from bach_keras.calibration import ANSWERED, LEVELS, Calibration, as_listed
from bach_keras.evidence import calibrate, conformal
from bach_keras.evidence.correlation import codes
from bach_keras.evidence.intervals import groups_of
from bach_keras.evidence.rows import batches
from bach_keras.hierarchy import Hierarchy, Member
from bach_keras.members import run_folder, uncalibrated_member, weights_of
from bach_keras.provenance import Provenance
from bach_keras.run_folder import Run
from bach_keras.tree import NODES, ROOT, products
from bach_keras.wording import counted
from datasets.errors import UserError, working
from datasets.labels import CLASSES
from datasets.progress import bar
from datasets.split_data import SplitData, data_of_run
from datasets.splits import VALIDATION
from datasets.whole import write_json

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """How a tree is calibrated."""

    views: int = 1  # of each image
    share: float = 0.2  # of the images that choose the threshold, how many are to be unsure
    data_dir: Path | None = None


@dataclass(frozen=True)
class _Fit:
    """A member, and the validation images of its run that its temperature is fitted on."""

    member: Member
    run: Run
    weights: str  # ``model`` or ``snapshots/NAME``
    data: SplitData
    names: list[str]


def calibrate_members(
    specs: dict[str, tuple[str, ...]], settings: Settings, images: SplitData | None = None, out: Path | None = None
) -> list[str]:
    """Fit each run's temperature into its folder, and a whole tree's thresholds into ``out``.

    Args:
        specs: node name -> runs as ``members.load_members`` takes them.
        settings: the views, and how many images are to be unsure.
        images: whose validation images choose the thresholds; by default those of the first carci run's own split.
        out: the file for the thresholds; None for one node by itself, which has none.

    Returns:
        A sentence for each run whose images are too few to fit a temperature on; none is kept of an earlier fit.

    Raises:
        UserError: the thresholds would be of too few patients, and nothing is written then; or, of a node by itself, no
            temperature can be fitted: one that was fitted earlier is forgotten all the same.
    """
    fits = [_opened(node, spec, settings) for node, given in specs.items() for spec in given]
    tree = Hierarchy([fit.member for fit in fits], views=settings.views)
    chosen = _choosing(fits, images) if out else None
    wanted = [(fit.data, fit.names) for fit in fits] + ([chosen] if chosen else [])
    with working():
        logits = _Answers(tree, wanted)
        refused, members = [], []
        for fit in fits:
            number = sum(member.node == fit.member.node for member in members)
            members.append(
                _fitted(fit, logits.of(fit.data, fit.names, fit.member.node, number), settings.views, refused)
            )
        if chosen:
            calibration = thresholds(members, chosen, logits, settings)
            write_json(out, calibration.as_json())
            LOG.info(f"wrote {out}: give it to evaluate and export with --calibrated")
    if len(refused) == len(fits) and not out:
        raise UserError(" ".join(refused))
    for sentence in refused:
        LOG.warning(sentence)
    return refused


def _opened(node: str, spec: str, settings: Settings) -> _Fit:
    run, member = Run.open(run_folder(spec)), uncalibrated_member(node, spec)
    data = data_of_run(run.settings, settings.data_dir)
    names = data.files.get(VALIDATION, [])
    if names:
        names = [name for name in names if data.labels.get(name) in NODES[node].targets]
    return _Fit(member, run, weights_of(spec), data, names)


def _choosing(fits: list[_Fit], images: SplitData | None) -> tuple[SplitData, list[str]]:
    """Return the images that choose the thresholds: validation images of the four labels that trained no member."""
    data = images or next(fit.data for fit in fits if fit.member.node == ROOT.name)
    held, digests = data.files.get(VALIDATION, []), data.prepared.digests
    provenance = Provenance.of_members(fit.member for fit in fits)
    seen = provenance.trained({name: digests.get(name, "") for name in held})
    names = [name for name in held if data.labels.get(name) in CLASSES and name not in seen]
    if not names:
        why = "all of them trained a member" if held else "there are none"
        raise UserError(
            f"No validation image of {data.config} by protocol {data.protocol} can choose thresholds, as {why}: name "
            "other images with --config and --protocol, or leave out the runs that trained on all."
        )
    if seen:
        LOG.info(f"{len(seen)} of {counted(len(held), 'validation image')} trained a member and choose no threshold")
    if missing := [name for name in CLASSES if name not in {data.labels[each] for each in names}]:
        LOG.warning(
            f"None of the images that choose thresholds is {' or '.join(missing)}: prediction sets hold the true class "
            "as often as they say on images of the other classes alone."
        )
    if unknown := sum(not each for each in _groups(data, names)):
        LOG.warning(
            f"The patients of {unknown} of the {counted(len(names), 'image')} that choose thresholds are unknown, and "
            "each counts as one of its own: how often prediction sets hold the class of a new patient's image is not "
            "assured."
        )
    conformal.check_patients(groups_of(_groups(data, names)), max(map(float, LEVELS)))
    return data, names


class _Answers:
    """The logits of all members for all images that are wanted, each image read once."""

    def __init__(self, tree: Hierarchy, wanted):
        by_config = defaultdict(dict)
        for data, names in wanted:
            by_config[data.config] |= dict.fromkeys(names, data)
        self._answers = {}
        for config, names in by_config.items():
            if names:
                data = next(iter(names.values()))
                self._answers |= {(config, name): answer for name, answer in _answered(tree, data, sorted(names))}

    def of(self, data: SplitData, names: list[str], node: str, number: int) -> np.ndarray:
        """Return float [N, views, 2] of a node's member, by its number from 0."""
        return np.array([self._answers[data.config, name][node][number] for name in names])


def _answered(tree: Hierarchy, data: SplitData, names: list[str]):
    """Yield each image's name and node -> logits [members, views, 2]."""
    with bar(what="Calibrating", total=len(names)) as progress:
        for parts, _, _, files in batches(tree, data, names).as_numpy_iterator():
            logits = {node: each.numpy() for node, each in tree.logits(parts).items()}
            if not all(np.isfinite(each).all() for each in logits.values()):
                raise UserError("A member answers NaN or infinity, so it cannot be calibrated: train it again.")
            for index, file in enumerate(files):
                yield file.decode(), {node: each[:, index] for node, each in logits.items()}
            progress.update(len(files))


def _fitted(fit: _Fit, logits, views: int, refused: list[str]) -> Member:
    """Fit a member's temperature, write it into its run, and return the member with it."""
    name, classes = f"{fit.member.node} {fit.member.source}", NODES[fit.member.node].classes
    if not fit.names:
        LOG.info(f"{name} kept no validation images, so its temperature stays {fit.member.temperature:g}")
        return fit.member
    targets = [NODES[fit.member.node].targets[fit.data.labels[each]] for each in fit.names]
    try:
        found = calibrate.fit_checked(logits, targets, _groups(fit.data, fit.names), classes)
    except UserError as error:
        refused.append(f"{name} has the temperature {fit.member.temperature:g}: {error}")
        temperatures.remove(fit.run, fit.weights, views)
        return fit.member
    facts = {"digest": fit.member.digest, "split": VALIDATION, "weighting": "patient"}
    temperatures.write(fit.run, fit.weights, views, facts | found)
    LOG.info(
        f"{name}: temperature {found['temperature']:.3f} from {counted(found['n'], 'validation image')} of "
        f"{counted(found['groups'], 'patient')}. By patients held out of the fit: {_change(found)}"
    )
    return replace(fit.member, temperature=found["temperature"], fitted_views=views)


def _change(found: dict) -> str:
    names = ("log_loss", "brier", "calibration_error")
    return ", ".join(f"{n.replace('_', ' ')} {found['before'][n]:.3f} to {found['after'][n]:.3f}" for n in names)


def _groups(data: SplitData, names: list[str]) -> list[str]:
    return [data.groups.get(name, "") for name in names]


def thresholds(members: list[Member], chosen, logits, settings: Settings) -> Calibration:
    """Choose a tree's thresholds on some images.

    Args:
        members: of the tree, with their temperatures.
        chosen: a ``SplitData`` and the names of its images that choose.
        logits: has ``of(data, names, node, number)``, float [N, views, 2].
        settings: the views, and how many images are to be unsure.
    """
    data, names = chosen
    nodes = {}
    for node in NODES:
        own = [member for member in members if member.node == node]
        nodes[node] = _average(own, [logits.of(data, names, node, number) for number in range(len(own))])
    leaves = np.concatenate(products(nodes[ROOT.name], nodes), axis=1)
    patients = codes(_groups(data, names))
    truth = np.array([CLASSES.index(data.labels[name]) for name in names])
    p_true, confidence = leaves[np.arange(len(names)), truth], leaves.max(axis=1)
    levels = {
        level: conformal.rounded_down(conformal.least_probability(p_true, patients, float(level))) for level in LEVELS
    }
    doubt = conformal.rounded_down(conformal.doubt_threshold(confidence, patients, settings.share))
    count = len(set(patients.tolist()))
    size = conformal.sets(leaves, levels[ANSWERED]).sum(axis=1).mean()
    LOG.info(
        f"thresholds from {counted(len(names), 'validation image')} of {counted(count, 'patient')}: an answer below "
        f"{doubt:.3f} is unsure ({np.mean(confidence < doubt):.0%} of them); sets of 90 % hold classes from "
        f"{levels[ANSWERED]:.3f} ({size:.2f} of four on average)"
    )
    if (needed := conformal.patients_needed(0.95)) > count:
        LOG.info(f"sets of 95 % are out of reach: they need at least {needed} patients")
    return Calibration(
        levels=levels, threshold=doubt, share=settings.share, n=len(names), groups=count, views=settings.views,
        config=data.config, protocol=data.protocol, split=VALIDATION, chosen_on=tuple(names),
        pixels=Provenance.of(data.prepared.digests, chosen=names).fields["pixels"],
        members=tuple(map(as_listed, members)),
    )  # fmt: skip


def _average(members: list[Member], logits) -> np.ndarray:
    total = sum(member.weight for member in members)
    return sum(
        member.weight / total * calibrate.probabilities(each, member.temperature)
        for member, each in zip(members, logits, strict=True)
    )
