"""A server under load: ``python -m benchmarks.load --model EXPORT [--minutes 10] [--clients 64]``.

``serve`` is started on free ports, and clients ask it over REST and gRPC, each one request after the other: for images
whose answers are known beforehand, by a direct call of the export; for what is broken, which must be refused; slowly;
and for its state. No request may be lost, none may have another's answer, and memory must not grow. Then the server is
stopped by SIGTERM under load, started again and stopped by SIGINT: what it had accepted must be answered.

With ``--address REST GRPC`` the same clients ask a server that runs elsewhere, such as TF Serving with this export, and
nothing is started or stopped.
"""

import argparse
import collections
import signal
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from benchmarks.load_clients import (
    BAD,
    BUSY,
    LEFT,
    LOST,
    REFUSED,
    RIGHT,
    UNEXPECTED,
    WRONG,
    Client,
    Result,
    Target,
    rest_images,
)
from benchmarks.load_hostile import ROLES
from benchmarks.load_known import album
from benchmarks.load_server import Ending, Process, Sample, slope

# Seconds before the signal from which on a request may be asked to try again: it may not have arrived.
ON_THE_WAY = 1.0

# Seconds that a stop may take: what the server allows itself, and as much again on a busy machine.
STOP = 300

# The share of the time of which neither the seconds that requests took nor the memory count.
WARM_UP = 0.25

# A memory that grows by less than this share of itself in the whole run is flat, whatever its slope.
FLAT = 0.01

_SERVE = ["--port", "0", "--grpc-port", "0"]
_PLACES = r" at http://(\S+) and grpc://(\S+)"


class Load:
    """Clients that ask a server until they are told to stop; a context manager."""

    def __init__(self, target: Target, clients: int, seed: int = 0):
        self.results: list[Result] = []
        self._stopped = threading.Event()
        self._clients = [
            Client(target, ROLES[number % len(ROLES)], seed + number, self.results, self._stopped)
            for number in range(clients)
        ]

    def __enter__(self):
        self.began = time.monotonic()
        for client in self._clients:
            client.start()
        return self

    def __exit__(self, *exception):
        self._stopped.set()
        for client in self._clients:
            client.join()


def warm_up(target: Target) -> None:
    """Ask a few times before the load begins, as a model does some things only once, and then for all who wait."""
    client = Client(target, {}, 0, [], threading.Event())
    for _ in range(8):
        rest_images(client)
    client.close()


def table(results: list[Result], since: float) -> list[str]:
    """Return the rows of each kind of request: what became of them, and how long those since a moment took."""
    outcomes = [RIGHT, REFUSED, BUSY, LEFT, WRONG, UNEXPECTED, LOST]
    heads = ["requests", "n", *outcomes, "sent twice", "p50, s", "p95, s", "p99, s"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for kind in sorted({result.kind for result in results}, key=list(_kinds()).index):
        of_kind = [result for result in results if result.kind == kind]
        counts = collections.Counter(result.outcome for result in of_kind)
        took = [result.ended - result.began for result in of_kind if result.began > since]
        parts = [f"{each:.2f}" for each in np.percentile(took, (50, 95, 99))] if took else [""] * 3
        twice = sum(result.resent is not None for result in of_kind)
        cells = [kind, len(of_kind), *(counts[name] for name in outcomes), twice, *parts]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def _kinds():
    return dict.fromkeys(kind for role in ROLES for kind in role)


def of_images(results: list[Result], target: Target, seconds: float) -> str:
    """Return in one sentence how many images were answered, and how exactly."""
    right = [result for result in results if result.images]
    images, worst = sum(result.images for result in right), max((result.difference for result in right), default=0)
    return (
        f"{len(results) / seconds:.1f} requests/s and {images / seconds:.1f} images/s in {seconds:.0f} s; of {images} "
        f"images the answer furthest from the known one is {worst:.1e} off ({target.album.tolerance:.0e} is allowed, "
        f"and the answers of the {len(target.album.images)} images are {target.album.apart:.1e} or more apart)."
    )


def of_memory(samples: list[Sample], seconds: float) -> tuple[str, bool]:
    """Return in one sentence how the memory went after the first quarter of the time, and whether it is flat."""
    began = samples[0].when
    kept = [sample for sample in samples if sample.when - began > WARM_UP * seconds]
    rise, low, high = slope(kept)
    growth = rise * (kept[-1].when - kept[0].when) / 60
    is_flat = low <= 0 or growth < FLAT * kept[0].megabytes
    sentence = (
        f"Memory after the first quarter: {np.mean([s.megabytes for s in kept]):.0f} MB in the mean, at most "
        f"{max(s.megabytes for s in samples):.0f}, {rise:+.2f} MB a minute (95 %: {low:+.2f} to {high:+.2f}): "
        f"{'flat' if is_flat else 'it GROWS'}. Threads at most {max(s.threads for s in samples)}, "
        f"open files at most {max(s.files for s in samples)}."
    )
    return sentence, is_flat


def faults(results: list[Result], most: int = 20) -> list[str]:
    """Return what must not have happened, the commonest first."""
    counts = collections.Counter(
        f"{result.kind}, {result.what}: {result.outcome} ({result.detail[:200]})"
        + ", after a connection in use was closed without an answer" * result.was_closed_in_use
        for result in results
        if result.is_bad
    )
    return [f"- {count} x {words}" for words, count in counts.most_common(most)]


def lost_in_stop(results: list[Result], when: float, margin: float = ON_THE_WAY) -> list[Result]:
    """Return the requests for images that a stop at a moment must not have cost.

    What was on its way, as is all that began less than ``margin`` seconds before, may be asked to try again, and what
    came later may find nobody; wrong answers may never be.
    """
    found = []
    for result in results:
        if result.kind not in ("REST", "gRPC") or result.ended < when:
            continue
        is_accepted = result.began < when - margin
        is_on_the_way = result.began < when
        bad = (*BAD, BUSY) if is_accepted else BAD if is_on_the_way else (WRONG, UNEXPECTED)
        found += [result] * (result.outcome in bad)
    return found


def stop_row(name: str, results: list[Result], ending: Ending) -> tuple[str, list[Result]]:
    """Return a row about a stop, and the requests that it cost."""
    asked = [result for result in results if result.kind in ("REST", "gRPC") and result.ended >= ending.when]
    before = [result for result in asked if result.began < ending.when]
    after = [result for result in asked if result.began >= ending.when]
    cost = lost_in_stop(results, ending.when)
    counts = [collections.Counter(result.outcome for result in part) for part in (before, after)]
    cells = [name, len(before), counts[0][RIGHT], counts[0][BUSY], len(cost), len(after), counts[1][BUSY],
             counts[1][LOST], f"{ending.seconds:.1f}", ending.code, len(ending.children)]  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |", cost


_STOP_HEAD = (
    "| signal | under way | answered | asked to try again | lost | new | asked to try again | found nobody | "
    "seconds to the end | exit code | children left |"
)


def campaign(given, known) -> bool:
    """Load a server of ours, and stop it twice under load; print what came of it and return whether all went well."""
    rows, costs, is_well = [], [], True
    for number, seconds in ((signal.SIGTERM, 60 * given.minutes), (signal.SIGINT, min(20, 60 * given.minutes))):
        with Process(["serve", "--model", str(given.model), *_SERVE], _PLACES) as process:
            rest, rpc = process.addresses
            host, _, port = rest.rpartition(":")
            target = Target((host, int(port)), rpc, known)
            warm_up(target)
            with Load(target, given.clients) as load:
                time.sleep(seconds)
                shown = list(load.results) if number == signal.SIGTERM else []
                if number == signal.SIGTERM:
                    is_well &= tell(shown, list(process.samples), target, seconds)
                ending = process.stop(number, STOP)
                bugs = process.tracebacks()
        row, cost = stop_row(number.name, load.results, ending)
        rows.append(row)
        costs += cost
        is_well &= judge_rest(load.results, len(shown), ending.when)
        is_well &= not (cost or ending.code or ending.children or bugs)
        if bugs:
            print(f"\nThe server showed {bugs} errors of its own.")
    print("\n" + "\n".join([_STOP_HEAD, "|---" * 11 + "|", *rows]))
    print("\n".join(["", *(f"- {cost}" for cost in costs)]))
    return is_well


def tell(results: list[Result], samples: list[Sample], target: Target, seconds: float) -> bool:
    """Print what a load came to, and how the server's memory went; return whether both are as they must be."""
    is_well = show(results, target, seconds)
    sentence, is_flat = of_memory(samples, seconds)
    print(f"\n{sentence}", flush=True)
    return is_well and is_flat


def show(results: list[Result], target: Target, seconds: float) -> bool:
    """Print the table, what must not have happened, and the answers' exactness; return whether nothing of it did."""
    found = faults(results)
    for kind in ("REST", "gRPC"):
        if not any(result.images for result in results if result.kind == kind):
            found.append(f"- no image was answered over {kind}")
    since = min((result.began for result in results), default=0) + WARM_UP * seconds
    print("\n".join([*table(results, since), "", of_images(results, target, seconds), *found]), flush=True)
    return not found


def judge_rest(results: list[Result], count: int, when: float) -> bool:
    """Print what must not have happened before a signal, but for so many requests that were shown; say if all is well.

    At the signal idle connections are closed, so that a request on its way may be sent twice.
    """
    found = faults([result for result in results[count:] if result.ended < when])
    if not any(result.images for result in results):
        found.append("- no image was answered")
    print("".join(f"{line}\n" for line in found), end="", flush=True)
    return not found


def elsewhere(given, known) -> bool:
    """Load a server that runs already."""
    rest, rpc = (urlsplit(address) for address in given.address)
    target = Target((rest.hostname, rest.port), rpc.netloc, known, given.name)
    warm_up(target)
    with Load(target, given.clients) as load:
        time.sleep(60 * given.minutes)
        results = list(load.results)
    return show(results, target, 60 * given.minutes)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, type=Path, metavar="EXPORT")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--images", type=int, default=24, help="how many known images")
    parser.add_argument("--address", nargs=2, metavar=("REST", "GRPC"), help="http://HOST:PORT grpc://HOST:PORT")
    parser.add_argument("--name", default="bach", help="the model's name at --address")
    given = parser.parse_args()
    from bach_keras.packed_kernels import keep_packed_kernels

    keep_packed_kernels()
    from bach_keras.serving.exported import Export

    known = album(Export(given.model), given.images)
    if len(known.images) < given.images:
        print(f"Only {len(known.images)} images have answers that are far enough apart; {given.images} were asked for.")
    if len(known.images) < 2:
        raise SystemExit("A load needs two known images or more, or an answer cannot be another's.")
    return 0 if (elsewhere if given.address else campaign)(given, known) else 1


if __name__ == "__main__":
    sys.exit(main())
