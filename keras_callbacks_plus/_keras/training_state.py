"""The variables of a run as arrays, the building of what holds them, and its learning rates."""

from __future__ import annotations

import json
from typing import Any

import keras

from keras_callbacks_plus._keras import compat, learning_rate, snapshot

__all__ = [
    "assign_iterations",
    "assign_metrics",
    "assign_model",
    "build_config",
    "capture_metrics",
    "capture_model",
    "configured_rates",
    "ensure_built",
    "iterations",
    "plain_logs",
    "set_rates",
    "variable_names",
]


def capture_model(model: Any, buffers: dict[str, list[Any]] | None = None) -> dict[str, list[Any]]:
    """Copies every variable of a model to host memory.

    Args:
        model: The model being trained; on JAX its state is attached first.
        buffers: What an earlier call returned and nobody reads any more: the memory is used again,
            which is several times faster than fresh memory.

    Returns:
        Arrays in the order of the model's own lists: `"variables"` (weights, non-trainable,
        seed generators) and `"optimizer"`.
    """
    compat.recover_state_after_failure(model)
    buffers = buffers or {}
    return {
        name: snapshot.copy_variables(variables, buffers.get(name))
        for name, variables in _groups(model).items()
    }


def variable_names(model: Any) -> dict[str, list[str]]:
    """The path of each variable that `capture_model` copies, for those who read a snapshot."""
    return {name: [v.path for v in variables] for name, variables in _groups(model).items()}


def assign_model(model: Any, arrays: dict[str, list[Any]]) -> None:
    """Puts back what `capture_model` returned, by position.

    Args:
        model: A built model with a built optimizer.
        arrays: The arrays.
    """
    compat.recover_state_after_failure(model)
    for name, variables in _groups(model).items():
        snapshot.assign_variables(variables, arrays[name])


def _groups(model: Any) -> dict[str, list[Any]]:
    optimizer = getattr(model, "optimizer", None)
    return {
        "variables": list(model.variables),
        "optimizer": _optimizer_variables(optimizer),
    }


def _optimizer_variables(optimizer: Any) -> list[Any]:
    """Every variable of an optimizer, those that Keras does not track included.

    `LossScaleOptimizer` builds the optimizer inside it with tracking off, so that what a subclass
    makes in its own `build` (`_u_product` of `Nadam`) is in nobody's `variables`:
    https://github.com/keras-team/keras/blob/v3.15.1/keras/src/optimizers/loss_scale_optimizer.py
    """
    if optimizer is None:
        return []
    variables = list(optimizer.variables)
    inner = getattr(optimizer, "inner_optimizer", None)
    if inner is not None:
        known = {id(variable) for variable in variables}
        variables += [
            value
            for _, value in sorted(vars(inner).items())
            if isinstance(value, keras.Variable) and id(value) not in known
        ]
    return variables


def capture_metrics(model: Any) -> list[Any]:
    """Copies the accumulators of the metrics; on JAX, of a model whose state is attached.

    Args:
        model: The model being trained.
    """
    return snapshot.copy_variables(model.metrics_variables)


def assign_metrics(model: Any, arrays: list[Any]) -> bool:
    """Puts back what `capture_metrics` returned.

    Args:
        model: The model.
        arrays: The arrays.

    Returns:
        Whether there was a variable for each: TensorFlow makes them in the first step only.
    """
    if len(model.metrics_variables) != len(arrays):
        return False
    snapshot.assign_variables(model.metrics_variables, arrays)
    return True


def ensure_built(model: Any, build_config: dict[str, Any] | None) -> None:
    """Builds a model and its optimizer, so that there are variables to put values into.

    Keras on TensorFlow builds them in the first training step only.

    Args:
        model: The compiled model.
        build_config: What `model.get_build_config()` returned in the run that was saved.
    """
    if not model.built and build_config:
        model.build_from_config(build_config)
        shape = build_config.get("input_shape")
        if not model.built and shape and _is_shape(shape):  # a subclass without `build`
            model(keras.Input(batch_shape=tuple(shape)))
    optimizer = getattr(model, "optimizer", None)
    if model.built and optimizer is not None and not optimizer.built:
        optimizer.build(model.trainable_variables)


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, list | tuple) and all(n is None or isinstance(n, int) for n in shape)


def build_config(model: Any) -> dict[str, Any] | None:
    """What `ensure_built` needs in another process, in JSON types."""
    config = model.get_build_config() if hasattr(model, "get_build_config") else None
    return json.loads(json.dumps(config)) if config else None


def iterations(model: Any) -> list[int]:
    """The steps of the optimizer, or of its parts; on JAX, of a model whose state is attached."""
    return [int(compat.to_numpy(variable.value)) for variable in _steps(model)]


def assign_iterations(model: Any, steps: list[int]) -> None:
    """Puts back what `iterations` returned.

    Args:
        model: The model, with a built optimizer.
        steps: The steps.
    """
    for variable, step in zip(_steps(model), steps, strict=False):  # none where it was not built
        variable.assign(step)


def _steps(model: Any) -> list[Any]:
    """Not `optimizer.iterations`, which is a quotient where gradients are accumulated."""
    variables = _optimizer_variables(getattr(model, "optimizer", None))
    return [variable for variable in variables if variable.name == "iteration"]


def plain_logs(logs: Any) -> Any:
    """Logs of a batch with NumPy numbers in place of tensors, in the same nesting."""
    return keras.tree.map_structure(compat.to_numpy, logs)


def configured_rates(model: Any) -> list[float] | None:
    """The learning rates that a script has set; `None` where they are computed, or there are none.

    Args:
        model: The compiled model, before its first epoch.
    """
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        return None
    parts = learning_rate.optimizers_of(optimizer)
    if not all(hasattr(o, "learning_rate") and not learning_rate.owns_schedule(o) for o in parts):
        return None
    return [learning_rate.read(part) for part in parts]


def set_rates(model: Any, rates: list[float]) -> None:
    """Sets the learning rates.

    Args:
        model: The model; on JAX, between two epochs.
        rates: What `configured_rates` returned.
    """
    for part, rate in zip(learning_rate.optimizers_of(model.optimizer), rates, strict=True):
        learning_rate.assign(part, rate)
