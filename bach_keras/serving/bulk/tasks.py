"""What runs in the processes that Ray starts: reading in some, answering in others. Each imports what it needs."""

import socket

from bach_keras.serving.bulk.plan import Answering, Looking, Seen
from datasets.errors import UserError, WorkError

# The process that decodes for this one, kept from one block to the next.
_DECODERS = {}


def read_block(names: tuple[str, ...], looking: Looking) -> list[Seen]:
    """Read some image files."""
    from bach_keras.quiet import quiet_tensorflow

    quiet_tensorflow()
    import tensorflow as tf

    if not _DECODERS:
        tf.config.set_visible_devices([], "GPU")  # they are for those who answer
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    from bach_keras.serving.bulk.reading import Decoder, read_files

    decodes = _DECODERS.setdefault(looking.folder, Decoder(looking.folder))
    return list(read_files(names, looking, decodes))


class Worker:
    """A process that holds the model."""

    def is_there(self) -> None:
        """Return once the process has started."""

    def load(self, answering: Answering, looking: Looking, threads: int) -> str:
        """Load the model; ``threads`` are those of this process, 0 for TensorFlow's own choice. Return the machine."""
        from bach_keras.packed_kernels import keep_packed_kernels
        from bach_keras.quiet import quiet_tensorflow

        quiet_tensorflow()
        keep_packed_kernels()
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        from bach_keras.serving.bulk.reading import Measured
        from bach_keras.serving.exported import Export
        from bach_keras.serving.metadata import ColourProfile, PixelSize
        from bach_keras.serving.views import with_views

        machine = socket.gethostname()
        try:
            export = with_views(Export(answering.model), answering.views)
        except UserError as error:
            raise WorkError(f"On the machine {machine}: {error}") from error
        if export.digest != answering.digest:
            raise WorkError(
                f"On the machine {machine}, {answering.model} is another model ({export.digest[:12]}) than where the "
                f"command was given ({answering.digest[:12]}): every machine must see the same."
            )
        self._export, self._answering = export, answering
        self._extras = (PixelSize(), ColourProfile(looking.icc == "apply"), Measured(looking.ranges, None))
        return machine

    def answer(self, seen: list[Seen]) -> list[dict]:
        """Answer for images that ``read_block`` read, batch by batch."""
        from bach_keras.serving.bulk.reading import answered

        batch, routing = self._answering.batch, self._answering.routing
        starts = range(0, len(seen), batch)
        return [
            row
            for start in starts
            for row in answered(self._export, seen[start : start + batch], routing, self._extras)
        ]
