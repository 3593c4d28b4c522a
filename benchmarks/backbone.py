"""Time and memory of the backbone and its peers: ``python -m benchmarks.backbone [--rounds 10] [--only JOB]``.

Each side runs in a process of its own. In every round the sides alternate, so
that a drift of the machine's speed affects them alike. A training step is done
once per turn; inference once unmeasured, for the caches that the other sides emptied,
and then five times. Run it on an idle machine nevertheless. Needs
requirements-bench.txt and a C++ compiler.
"""

import argparse
import functools
import importlib.util
import multiprocessing
import os
import platform
import re
import resource
import statistics
import timeit
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path

from benchmarks.sides import FROZEN_STEP, GROUPED, ONE, SIDE, SIDES, STEP, TEN, THREADS
from benchmarks.tree import ratios

JOBS = {"step": STEP, "frozen": FROZEN_STEP, "one": ONE, "ten": TEN, "grouped": GROUPED}
WARM_UP = 3
MEMORY_STEPS = 4
CALLS = 5  # of inference in a turn
PEERS, HALF = ("PyTorch", "PyTorch compiled", "ONNX Runtime"), "ours bf16"
PACKAGES = ("tensorflow", "keras", "torch", "onnxruntime")


@functools.cache
def prepared(side, job):
    """Build a side's network for a job once a process."""
    return SIDES[side](job)


def has_job(side, job):
    """Return whether the side knows the job."""
    return prepared(side, job) is not None


def clock(side, job):
    """Return the seconds that the job takes a side, in the mean of its calls of a turn."""
    run = prepared(side, job)
    if job not in (ONE, TEN):
        return timeit.timeit(run, number=1)
    run()
    return timeit.timeit(run, number=CALLS) / CALLS


def peak_memory(side, job):
    """Return the MB that a process held before its first step, and at most in the steps after."""
    run = prepared(side, job)
    before = _peak_megabytes()
    for _ in range(MEMORY_STEPS):
        run()
    return before, _peak_megabytes()


def _peak_megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def process():
    """Return a pool of one fresh process."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


def measure(job, rounds):
    """Return side -> its seconds, one value a round."""
    pools = {side: process() for side in SIDES}
    try:
        pools = {side: pool for side, pool in pools.items() if pool.submit(has_job, side, job).result()}
        seconds = {side: [] for side in pools}
        for number in range(WARM_UP + rounds):
            for side, pool in pools.items():
                taken = pool.submit(clock, side, job).result()
                if number >= WARM_UP:
                    seconds[side].append(taken)
    finally:
        for pool in pools.values():
            pool.shutdown()
    return seconds


def row(job, seconds):
    """Return the job's line of the table: medians, and ours over the best peers, round by round."""
    medians = {side: statistics.median(values) for side, values in seconds.items()}
    best = min((side for side in medians if side in PEERS), key=medians.get)
    pairs = [("ours", best)]
    if HALF in medians:
        pairs += [(HALF, peer) for peer in ("ours", "PyTorch bf16", "ONNX Runtime") if peer in medians]
    cells = [f"{1000 * medians[side]:.0f}" if side in medians else "" for side in SIDES]
    spreads = [f"{own} {ratios(seconds[own], seconds[peer])} of {peer}" for own, peer in pairs]
    return f"| {job} | {' | '.join(cells)} | {'; '.join(spreads)} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10, help="turns of each side (10)")
    parser.add_argument("--only", choices=JOBS, help="one job")
    given = parser.parse_args()
    if given.rounds < 1:
        parser.error(f"--rounds must be at least 1, not {given.rounds}")
    missing = [name for name in ("torch", "onnxruntime") if not importlib.util.find_spec(name)]
    if missing:
        parser.error(f"{' and '.join(missing)} not installed here: pip install -r requirements-bench.txt")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    print(f"ResNeXt-50 (32x4d), {SIDE}x{SIDE}; milliseconds, medians of {given.rounds} alternating rounds\n")
    print(f"| job | {' | '.join(SIDES)} | ratios: min - median - max |")
    print("|---" * (len(SIDES) + 2) + "|")
    for name, job in JOBS.items():
        if given.only in (None, name):
            print(row(job, measure(job, given.rounds)), flush=True)
    if given.only in (None, "step"):
        print("\nMB of memory: before the first training step -> at most in it (and how much that is more)\n")
        for side in ("ours", "PyTorch", "PyTorch compiled"):
            with process() as pool:
                before, peak = pool.submit(peak_memory, side, STEP).result()
            print(f"- {side}: {before:.0f} -> {peak:.0f} (+{peak - before:.0f})", flush=True)
    names = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text()) or [platform.machine()]
    packages = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    print(f"\n{names[0]}, {os.cpu_count()} cores, {THREADS} threads each; {packages}")


if __name__ == "__main__":
    main()
