"""A set of own images as a collection: what protocols draw from, known only once it is prepared."""

from collections.abc import Iterable

from datasets.catalogue import Collection, Record
from datasets.own.names import drawn_names


def own_collection(config: str, records: Iterable[Record], digests: dict[str, str]) -> Collection:
    """Return the collection of a prepared set; ``digests`` gives each file name's SHA-256 of its pixels."""
    records = tuple(records)
    return Collection(
        config,
        size=(0, 0),  # of each image its own
        records=records,
        drawn_names=drawn_names(record.filename for record in records),
        digests=digests,
    )
