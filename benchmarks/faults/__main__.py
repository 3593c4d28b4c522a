"""Every command under every fault: ``python -m benchmarks.faults [--only COMMAND] [--quick]``.

Small networks on phantoms of 80 patients are trained and exported. Then each command is given as a user gives it, and
killed, stopped, denied the disk, the clock or the locks, or fed with damaged files. It must end in one sentence; given
again, or as its sentence says, it must finish; what it has made must be what it makes undisturbed; and nothing else may
be left, neither files nor processes.
"""

import argparse
import os
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from benchmarks.faults import place
from benchmarks.faults.commands import COMMANDS, make_base
from benchmarks.faults.kinds import FAULTS, tries
from benchmarks.faults.tries import Outcome, Runner, undisturbed

# The promises, and whether they are seen only where the command was given again.
_COLUMNS = {"said": False, "finishes": True, "equals": True, "clean": False}


def campaign(runner: Runner, names, is_quick: bool, faults=(), say=print) -> list[Outcome]:
    """Try commands by name under these faults, or all where none are named; ``say`` prints a line for each try."""
    mounts, outcomes = place.can_mount(), []
    for name in names:
        command = COMMANDS[name]
        whole = undisturbed(runner, command)
        say(f"{name}: {whole.seconds:.1f} s of a processor, {whole.changes} changes of files, {whole.bytes} bytes")
        for each in tries(command, whole, is_quick, mounts):
            if faults and each.fault not in faults:
                continue
            outcome = each.run(runner, command, whole)
            outcomes.append(outcome)
            words = "; ".join(outcome.complaints) or ("as it should" if outcome.is_planted else "NOT PLANTED")
            sentence = f" ({outcome.sentence[:300]})" if outcome.sentence else ""
            say(f"  {each.fault}, {outcome.detail}, {outcome.seconds:.0f} s: {words}{sentence}")
    return outcomes


def table(outcomes: list[Outcome]) -> list[str]:
    """Return a Markdown table: a row for each command and fault, with how many of its tries held each promise.

    A try whose fault has not come, as far as can be seen, holds none. One that left all as it was is not given again,
    since that would be the undisturbed command.
    """
    rows = defaultdict(list)
    for outcome in outcomes:
        rows[outcome.command, outcome.fault].append(outcome)
    lines = [
        "| command | fault | tries | not planted | untouched | one sentence | finishes | equal | nothing left |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (command, fault), tried in rows.items():
        met = [each for each in tried if each.is_planted]
        again = [each for each in met if not each.is_untouched]
        counts = [len(tried), len(tried) - len(met), len(met) - len(again)]
        counts += [sum(not getattr(each, name) for each in (again if is_again else met))
                   for name, is_again in _COLUMNS.items()]  # fmt: skip
        lines.append(f"| {command} | {fault} | {' | '.join(map(str, counts))} |")
    return lines


def main() -> int:
    """Run the campaign, and return how many tries broke a promise; 1 too where no fault has come."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=COMMANDS, help="a command; can be given several times")
    parser.add_argument("--fault", action="append", choices=FAULTS, help="a fault; can be given several times")
    parser.add_argument("--quick", action="store_true", help="fewer moments and files of each")
    given = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        runner = Runner(Path(folder))
        make_base(runner.base, runner.must)
        outcomes = campaign(runner, given.only or COMMANDS, given.quick, given.fault or (), _say)
    print("\n".join(["", *table(outcomes), ""]))
    wrong = [each for each in outcomes if each.complaints]
    for each in wrong:
        print(f"{each.command}, {each.fault}, {each.detail}: {'; '.join(each.complaints)}")
    minutes = (time.monotonic() - begun) / 60
    missed = sum(not each.is_planted for each in outcomes)
    print(f"{len(outcomes)} tries in {minutes:.0f} minutes, {len(wrong)} of them broke a promise")
    print(f"In {missed} of them the fault has not come, so they show nothing.")
    if len(outcomes) == missed:
        print("Nothing was tried.")
    return len(wrong) + (len(outcomes) == missed)


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(min(1, main()))
