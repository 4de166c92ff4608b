"""Makes the variables that a first step of training would make, before there is one."""

from __future__ import annotations

import json
import logging
from typing import Any

import keras

from keras_callbacks_plus._keras import compat
from keras_callbacks_plus._keras.held_parts import optimizers

__all__ = ["build_as_saved", "build_optimizer", "how_it_was_built"]

_LOGGER = logging.getLogger("keras_callbacks_plus")


def how_it_was_built(model: Any) -> dict[str, Any]:
    """What `build_as_saved` needs in another process, in JSON types.

    Args:
        model: The model being trained.

    Returns:
        The model's own `get_build_config()`, the number of its variables, and for each optimizer
        the positions of the variables it was built for (`None` where it is not, or where they are
        not the model's).
    """
    config = model.get_build_config() if hasattr(model, "get_build_config") else None
    places = {id(variable): place for place, variable in enumerate(model.variables)}
    built: dict[str, list[int] | None] = {}
    for path, optimizer in optimizers(model).items():
        trained = compat.optimized_variables(optimizer) if optimizer is not None else []
        known = trained and all(id(variable) in places for variable in trained)
        built[path] = [places[id(variable)] for variable in trained] if known else None
    return {
        "config": json.loads(json.dumps(config)) if config else None,
        "variables": len(places),
        "optimizers": built,
    }


def build_as_saved(model: Any, saved: dict[str, Any], batch_spec: Any) -> None:
    """Builds a model and its optimizers, so that there are variables to put values into.

    Keras on TensorFlow builds them in the first training step only. What only that step itself can
    make is still missing afterwards.

    Args:
        model: The compiled model.
        saved: What `how_it_was_built` returned in the run that was saved.
        batch_spec: The shapes and types of a batch, or `None` where Keras has built by itself.
    """
    if len(model.variables) != saved["variables"] and batch_spec is not None:
        _call_symbolically(model, batch_spec)
    if not model.built and saved["config"] and len(model.variables) != saved["variables"]:
        model.build_from_config(saved["config"])
    variables = list(model.variables)
    for path, optimizer in optimizers(model).items():
        places = saved["optimizers"].get(path)
        unbuilt = optimizer is not None and not optimizer.built
        if unbuilt and places is not None and max(places) < len(variables):
            optimizer.build([variables[place] for place in places])


def build_optimizer(model: Any) -> None:
    """Builds the optimizer of a built model; on TensorFlow, the first step would."""
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None and not optimizer.built:
        optimizer.build(model.trainable_variables)


def _call_symbolically(model: Any, batch_spec: Any) -> None:
    """Calls the model on placeholders: whatever its inputs are nested in, and its `build` does."""
    x, _, _ = keras.utils.unpack_x_y_sample_weight(batch_spec)
    try:
        model(keras.tree.map_structure(lambda s: keras.KerasTensor(s.shape, s.dtype.name), x))
    except Exception as error:  # noqa: BLE001 - the first step makes the variables then, or raises
        _LOGGER.debug("The model cannot be called on placeholders: %r", error)
