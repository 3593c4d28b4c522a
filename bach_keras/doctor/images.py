"""The data sets that are prepared, and the list of BACH's patients."""

import csv
import hashlib

from bach_keras.doctor.finding import ROOT, Asked, Finding, failed, in_a_line, passed, warned

PATIENTS = ROOT / "datasets" / "bach_patients.csv"
# SHA-256 of its rows, whatever ends their lines; a new list brings a new one.
PATIENTS_DIGEST = "e86a8295bff5ad47399391cd1bc1268346211865d6c814289d843ec554d5eda8"

_CHECK_OUT = "`git checkout -- datasets/bach_patients.csv`"


def patients(asked: Asked) -> Finding:
    """Say whether the list of BACH's patients is the published one: the split by patient stands on it."""
    try:
        with PATIENTS.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
    except (OSError, ValueError, csv.Error) as error:
        return failed("patient table", f"datasets/bach_patients.csv cannot be read ({in_a_line(error)})", _CHECK_OUT)
    if digest_of(rows) != PATIENTS_DIGEST:
        return failed(
            "patient table",
            f"datasets/bach_patients.csv, of {len(rows) - 1} rows, is not the published list: splits by patient would "
            "be others", _CHECK_OUT,
        )  # fmt: skip
    return passed("patient table", f"{len(rows) - 1} images of {len({row[1] for row in rows[1:]})} patients")


def digest_of(rows: list[list[str]]) -> str:
    return hashlib.sha256("\n".join(",".join(row) for row in rows).encode()).hexdigest()


def reachable_sets(asked: Asked) -> list:
    """Return what ``prepared_sets`` does; nothing where the data folder is closed, which ``sets`` tells."""
    try:
        return prepared_sets(asked)
    except OSError:
        return []


def prepared_sets(asked: Asked) -> list:
    """Return every set whose files are there, damaged or not, as ``Prepared``."""
    from datasets.bach_bisque.prepared import Prepared, own_sets
    from datasets.config_names import KNOWN

    found = [Prepared(config, asked.data_dir) for config in (*KNOWN, *own_sets(asked.data_dir))]
    return [prepared for prepared in found if prepared.target.parent.is_dir()]


def record_files(prepared) -> list[str]:
    # Complete, as they are read in another folder.
    return sorted(str(path.absolute()) for path in prepared.folder.glob("*.tfrecord*"))


def sets(asked: Asked) -> list[Finding]:
    """Say what each prepared set holds and when it was verified; its records are read by ``inside``."""
    from datasets.data_root import data_root

    place = data_root(asked.data_dir)
    try:
        found = [_look_at(prepared) for prepared in prepared_sets(asked)]
    except OSError as error:
        fix = "give yourself the right to read that folder, or name another with --data-dir or TFDS_DATA_DIR"
        return [failed("data sets", f"{error.filename or place} cannot be read: {error.strerror}", fix)]
    if not found:
        return [passed("data sets", f"none is prepared in {place}; `train --config phantom` draws synthetic images")]
    return found


def _look_at(prepared) -> Finding:
    from datasets.bach_bisque.verified import last_verification
    from datasets.errors import UserError

    name, config = f"data {prepared.config}", prepared.config
    again = f"`python cli.py data prepare {_options(config)} --overwrite`"
    if not prepared.is_built:
        older = [path.name for path in prepared.older_versions]
        if older:
            return warned(name, f"prepared by version {older[-1]} alone, which is no longer read", again)
        return passed(name, "not prepared")
    try:
        summary = prepared.summary()
    except (OSError, UserError) as error:
        return failed(name, str(error).rstrip("."), again)
    verified = last_verification(prepared.folder)
    value = f"{summary.images + summary.test_images} images, version {summary.version}"
    verify = f"`python cli.py data verify --config {config}`"
    if verified and verified.changed:
        changed = f"{verified.changed[0]} has another size or time than when it was verified on {verified.at} UTC"
        return warned(name, f"{value}; {changed}", verify)
    when = f"verified on {verified.at} UTC" if verified else f"never verified ({verify} does it)"
    return passed(name, f"{value}, {when}")


def _options(config: str) -> str:
    from datasets.own.names import options_of

    return options_of(config)
