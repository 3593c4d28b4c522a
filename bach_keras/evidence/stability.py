"""How often a system keeps its answers when images change a little."""

import logging
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bach_keras.evidence import stability_card
from bach_keras.evidence.evaluate import check_folder, default_split, judging, notes, warn_of_phantoms
from bach_keras.evidence.rows import BATCH, answers_of
from bach_keras.evidence.stability_card import ANSWERS, CARD, CHANGES
from bach_keras.wording import counted
from datasets.ahead import ahead
from datasets.errors import UserError, working
from datasets.images.ahead import THREADS
from datasets.labels import LABELS
from datasets.perturbations import versions
from datasets.progress import bar
from datasets.whole import whole, write_json

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sample:
    """Which of the images that could judge are asked about."""

    count: int = 100  # at most
    seed: int = 0

    def of(self, names: list[str], groups: dict[str, str]) -> list[str]:
        """Return so many names, sorted: one of each patient, in random order, then a second of each, and so on."""
        seen, ranked = {}, []
        for place, index in enumerate(np.random.default_rng(self.seed).permutation(len(names))):
            name = sorted(names)[index]
            patient = groups.get(name, "") or ("", name)  # of an unknown patient, each is one of its own
            seen[patient] = seen.get(patient, 0) + 1
            ranked.append((seen[patient], place, name))
        return sorted(name for *_, name in sorted(ranked)[: self.count])


def measure_stability(system, data, split: str | None, out: Path, sample: Sample, members: Iterable[str] = ()) -> dict:
    """Ask a system about images as they are and changed a little, and write stability.csv and stability.json.

    Args:
        system: a ``Hierarchy`` or an ``Export``.
        data: a ``SplitData``.
        split: as ``evaluate`` takes it: the images that could judge the system.
        out: the folder to write into.
        sample: which of these images are asked about.
        members: the runs that the card names.

    Returns:
        What stability.json holds: ``stability_card.figures``, and where these come from.

    Raises:
        UserError: as ``evaluate`` does. Nothing has been written then.
    """
    out, split = Path(out), split or default_split(system, data)
    held = judging(system, data, split)
    names = sample.of(held, data.groups)
    check_folder(out, (ANSWERS, CARD))
    LOG.info(
        f"asking about {len(names)} of {counted(len(held), 'image')} (--images {sample.count}, --seed {sample.seed}), "
        f"each as it is and changed in {len(CHANGES) - 1} ways"
    )
    with working():
        content = stability_card.as_csv(_answers(system, data, names), system.digest)
        try:
            answered = stability_card.parse(content, ANSWERS)
        except UserError as error:
            raise UserError(f"The system gives answers that no tree of this project gives: {error}") from error
        card = {
            **stability_card.figures(answered),
            "views": system.views,
            "image_size": system.view.image_size,
            "config": data.config,
            "protocol": data.protocol,
            "split": split,
            "split_notes": notes(system, data, split, names),
            "members": list(members),
            "member_configs": list(system.configs),
            "of": len(held),
            "seed": sample.seed,
            "answers_digest": stability_card.digest(content),
        }
        out.mkdir(parents=True, exist_ok=True)
        with whole(out / ANSWERS) as partial:
            partial.write_bytes(content)
        # It comes last: it names the answers that it is of.
        write_json(out / CARD, card)
    warn_of_phantoms(system.configs)
    return card


def _answers(system, data, names: list[str]) -> dict[tuple[str, str], list[dict]]:
    """Return the rows of each change, sorted by file name."""
    found, digests = {change: [] for change in CHANGES}, data.prepared.digests
    chosen = system.provenance.chosen({name: digests[name] for name in names})

    def seen(record):
        changed = versions(record["image"], system.view.image_size)
        return record, np.stack([system.prepare(pixels) for pixels in changed])

    # Images are changed in threads while the networks work on others.
    records = data.images(names).as_numpy_iterator()
    with bar(what="Stability", total=len(names)) as progress, closing(ahead(seen, records, THREADS)) as images:
        for record, squares in images:
            name = record["filename"].decode()
            row = {
                "filename": name,
                "group": data.groups.get(name, ""),
                "digest": digests[name],
                "truth": LABELS[record["label"]],
                "chosen": name in chosen,
            }
            parts = np.array_split(squares, -(-len(squares) // BATCH))
            answers = [answer for part in parts for answer in answers_of(system, part, f"{name}, or a change of it")]
            for change, answer in zip(CHANGES, answers, strict=True):
                found[change].append({**row, **answer, "uncalibrated": None})
            progress.update()
    return {change: sorted(rows, key=lambda row: row["filename"]) for change, rows in found.items()}
