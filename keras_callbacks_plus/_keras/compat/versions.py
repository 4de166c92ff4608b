"""Which Keras, and which backend: what we need, and what is there."""

from __future__ import annotations

import functools
import os
import re
import sys
from typing import Any

from keras_callbacks_plus.errors import UnsupportedKerasError

MINIMUM_KERAS = (3, 10)
MINIMUM_TENSORFLOW = (2, 16)
_WHAT_TO_DO = (
    'Install "keras>=3.10" (with "tensorflow>=2.16", JAX or PyTorch as its backend) and unset '
    "TF_USE_LEGACY_KERAS. Keras 2 and tf-keras models: stay on tf.keras's own callbacks; no "
    "version of keras-callbacks-plus supports them."
)


@functools.cache
def _version_tuple(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def require_keras() -> None:
    """Raises `UnsupportedKerasError` where Keras is absent, too old, or Keras 2 in disguise."""
    try:
        import keras
    except ModuleNotFoundError as error:
        if error.name != "keras":
            raise
        raise UnsupportedKerasError(f"Keras is not installed. {_WHAT_TO_DO}") from error
    found = str(getattr(keras, "__version__", "0"))
    if _version_tuple(found) < MINIMUM_KERAS:
        raise UnsupportedKerasError(
            f"Found Keras {found}; keras-callbacks-plus needs Keras >= 3.10. {_WHAT_TO_DO}"
        )
    tensorflow = sys.modules.get("tensorflow")  # never imported by us
    if tensorflow is not None:
        found = str(getattr(tensorflow, "__version__", "0"))
        if _version_tuple(found) < MINIMUM_TENSORFLOW:
            raise UnsupportedKerasError(
                f"Found TensorFlow {found} under Keras {keras.__version__}; keras-callbacks-plus "
                f"needs TensorFlow >= 2.16. {_WHAT_TO_DO}"
            )


def require_keras_model(model: Any) -> None:
    """Raises `UnsupportedKerasError` for a model of Keras 2 (tf-keras, or inside TensorFlow).

    Anything else passes that has the methods a callback calls: wrappers and doubles do.
    """
    for kind in type(model).__mro__:
        if kind.__module__.startswith(("tf_keras.", "tensorflow.python.keras.")):
            raise UnsupportedKerasError(
                f"The model is a {kind.__module__}.{kind.__qualname__}, which is not of Keras 3 "
                f"(TF_USE_LEGACY_KERAS={os.environ.get('TF_USE_LEGACY_KERAS', 'unset')}). "
                f"{_WHAT_TO_DO}"
            )


def backend() -> str:
    """Name of Keras's backend: `"tensorflow"`, `"jax"`, `"torch"` or another."""
    import keras

    return str(keras.backend.backend())


def device_kind() -> str:
    """Where the backend computes: `"cpu"`, `"gpu"`, `"cuda"`, `"tpu"` or a name of its own."""
    if backend() == "jax":
        import jax

        return str(jax.default_backend())
    if backend() == "torch":
        from keras.src.backend.torch.core import get_device

        return str(get_device()).partition(":")[0]
    if backend() == "tensorflow":
        import tensorflow as tf

        kinds = {device.device_type for device in tf.config.list_logical_devices()}
        return "tpu" if "TPU" in kinds else "gpu" if "GPU" in kinds else "cpu"
    return "unknown"


def keras_version() -> tuple[int, ...]:
    """The first two numbers of Keras's version."""
    import keras

    return _version_tuple(str(keras.__version__))
