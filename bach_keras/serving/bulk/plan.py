"""What the processes of a `bulk` send each other. It imports neither Ray nor TensorFlow."""

import os
from dataclasses import dataclass, field

import numpy as np

from bach_keras.evidence.ranges import Ranges
from bach_keras.serving.bulk.shards import Todo


@dataclass(frozen=True)
class Looking:
    """How image files are looked at."""

    side: int  # of the squares that the model sees
    views: int
    ranges: Ranges | None
    time_limit: float  # seconds that an image may take to be read
    folder: str | None = None  # where relative paths begin
    um_per_pixel: float | None = None
    icc: str = "note"


@dataclass
class Seen:
    """An image file as it was read; it travels from the process that read it to one with the model."""

    path: str
    file: dict = field(default_factory=dict)  # digest, bytes, modified_ns; width and height of an image
    error: str | None = None
    prepared: np.ndarray | None = None
    looked: tuple = ()  # by PixelSize, ColourProfile and Judgement


@dataclass(frozen=True)
class Answering:
    """Which model answers, and how."""

    model: str  # its folder
    digest: str
    views: int | None
    routing: str
    batch: int


@dataclass(frozen=True)
class Machines:
    """Where the work is done."""

    address: str | None = None  # of a Ray cluster; None: this machine alone
    workers: int | None = None  # None: one for each GPU, or for each core where there is none
    log: str = os.devnull  # for what Ray writes
    patience: float = 120.0  # seconds without a process that answers, after which it is given up


@dataclass(frozen=True)
class Plan:
    machines: Machines
    looking: Looking
    answering: Answering
    todo: Todo
