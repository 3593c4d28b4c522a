"""What a process that tried TensorFlow would have said."""

START = {"version": "2.21.0", "gpus": [], "has_cuda": True, "cuda": "12.5.1", "seconds": 2.0}
KERAS = {"version": "3.15.1", "backend": "tensorflow", "image_data_format": "channels_last", "floatx": "float32"}


class Said:
    """Stands in for ``Inside``: each step that is not given did not end, for one reason."""

    def __init__(self, reason="", **steps):
        self.reason, self.steps = reason, steps

    def step(self, name):
        return self.steps.get(name), "" if name in self.steps else self.reason
