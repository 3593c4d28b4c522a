"""Hostile inputs at every door: ``python -m benchmarks.hostile``.

Each door has a process of its own, which takes one input after the other. What counts: that it is answered or refused
in one sentence, in time and in little memory; that nothing outside was read or written and no code was run; and that
no markup, formula or command to a terminal comes out.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.hostile.campaign import Campaign
from benchmarks.hostile.doors import DOORS

_HEADS = ("door", "inputs", "answered", "refused", "crashes", "hangs", "slowest s", "MB above a good input", "escapes")

# Of each door so many inputs that did what they must not are shown; --keep has all.
_SHOWN = 20


def main(words: list[str] | None = None) -> int:
    """Print a table of the doors; return how many inputs did what they must not, and doors that do not open."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hostile", description=__doc__.splitlines()[0])
    parser.add_argument("--door", action="append", choices=sorted(DOORS), help="only this one; repeat it for several")
    parser.add_argument("--inputs", type=int, default=700, help="pictures that are generated, about (700)")
    parser.add_argument("--seed", type=int, default=0, help="of the damage (0)")
    parser.add_argument("--files", type=Path, help="a folder with more files, archives of them and lists of names")
    parser.add_argument("--keep", type=Path, help="a new folder for the inputs and what was said of each")
    asked = parser.parse_args(words)
    if asked.keep and (asked.keep / "inputs").exists():
        parser.error(f"{asked.keep} holds the inputs of another campaign: name a new folder")
    with tempfile.TemporaryDirectory(prefix="hostile-") as temporary:
        place = asked.keep or Path(temporary)
        place.mkdir(exist_ok=True)
        campaign = Campaign(place.resolve(), asked.inputs, asked.seed, asked.files)
        print(f"| {' | '.join(_HEADS)} |\n|{'---|' * len(_HEADS)}", flush=True)
        wrong = 0
        for door in asked.door or DOORS:
            try:
                tally = campaign.run(door)
            except RuntimeError as error:
                print(error, file=sys.stderr, flush=True)
                wrong += 1
                continue
            print(f"| {' | '.join(tally.cells())} |", flush=True)
            for sentence in tally.said[:_SHOWN]:
                print(sentence, file=sys.stderr, flush=True)
            wrong += tally.wrong
    return wrong


if __name__ == "__main__":
    sys.exit(min(1, main()))
