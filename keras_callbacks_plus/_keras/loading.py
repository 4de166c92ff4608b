"""Checkpoints back into models: Keras's own loading, after the file was found whole."""

from __future__ import annotations

from typing import Any

from keras_callbacks_plus._keras import compat

compat.require_keras()

import keras  # noqa: E402 - after the version check, which says what to install

__all__ = ["load_model", "load_weights"]


def load_model(path: str, **arguments: Any) -> Any:
    """Loads a model.

    Args:
        path: A `.keras` or `.h5` file.
        **arguments: Those of `keras.models.load_model`.
    """
    return keras.models.load_model(path, **arguments)


def load_weights(model: Any, path: str, **arguments: Any) -> None:
    """Loads the weights of a model or a weights file into a model.

    Args:
        model: The model.
        path: A `.weights.h5`, `.keras` or `.h5` file.
        **arguments: Those of `keras.Model.load_weights`.
    """
    compat.require_keras_model(model)
    model.load_weights(path, **arguments)
