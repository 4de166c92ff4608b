"""The global random generators of Keras and TensorFlow, and TensorFlow's global seed."""

from __future__ import annotations

import sys
from typing import Any


def global_seed_generator(create: bool = False) -> Any:
    """Keras's global seed generator, which `keras.random` draws from where no seed is given.

    It has no public accessor:
    https://github.com/keras-team/keras/blob/v3.15.1/keras/src/random/seed_generator.py

    With `create`, it is made where no one has drawn from it yet.
    """
    from keras.src.backend.common import global_state

    generator = global_state.get_global_attribute("global_seed_generator")
    if generator is None and create:
        from keras.src.random.seed_generator import global_seed_generator as make

        generator = make()
    return generator


def tensorflow_global_generator(create: bool = False) -> Any:
    """TensorFlow's global generator if the process has one; TensorFlow is never imported here.

    `tf.random.get_global_generator()` would create it, so its module variable is read:
    https://github.com/tensorflow/tensorflow/blob/v2.21.0/tensorflow/python/ops/stateful_random_ops.py
    """
    module = sys.modules.get("tensorflow.python.ops.stateful_random_ops")
    generator = getattr(module, "global_generator", None)
    if generator is None and create and "tensorflow" in sys.modules:
        generator = sys.modules["tensorflow"].random.get_global_generator()
    return generator


def tensorflow_global_seed() -> int | None:
    """The seed given to `tf.random.set_seed`, or `None`; it fixes the order of shuffled data.

    https://github.com/tensorflow/tensorflow/blob/v2.21.0/tensorflow/python/eager/context.py
    """
    module = sys.modules.get("tensorflow.python.eager.context")
    seed = module.global_seed() if module is not None else None
    return None if seed is None else int(seed)
