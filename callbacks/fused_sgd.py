"""SGD with momentum in one pass over the weights."""

import keras
import tensorflow as tf


class FusedSGD(keras.optimizers.SGD):
    """Keras's SGD with momentum, its update done by TensorFlow's fused operation.

    Keras writes the update as five operations, each of which passes over all weights, so the speed of memory
    bounds it. The numbers are the same (Sutskever et al. 2013, equations 1 to 4).

        >>> from callbacks.fused_sgd import FusedSGD
        >>> FusedSGD(0.1, momentum=0.9, nesterov=True).nesterov
        True
    """

    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        if not self.momentum:
            raise ValueError("FusedSGD needs a momentum above 0: without it use keras.optimizers.SGD.")

    def update_step(self, gradient, variable, learning_rate):
        # Inside a strategy's update the variable is TensorFlow's, outside it may be Keras's.
        weights = variable.value if isinstance(variable, keras.Variable) else variable
        velocity = self.momentums[self._get_variable_index(variable)].value
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=weights.handle,
            accum=velocity.handle,
            lr=tf.cast(learning_rate, weights.dtype),
            grad=tf.cast(tf.convert_to_tensor(gradient), weights.dtype),  # that of an embedding is sparse
            momentum=tf.cast(self.momentum, weights.dtype),
            use_nesterov=self.nesterov,
        )
