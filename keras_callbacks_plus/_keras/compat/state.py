"""What a model holds: variables, averages, metrics, and where JAX keeps them meanwhile."""

from __future__ import annotations

from typing import Any, Literal

from keras_callbacks_plus._keras.compat.versions import backend


def to_numpy(value: Any) -> Any:
    """A tensor of any backend as a NumPy array; anything else as it is."""
    import keras

    return keras.ops.convert_to_numpy(value) if keras.ops.is_tensor(value) else value


def declared_direction(model: Any, name: str) -> Literal["min", "max"] | None:
    """`"min"` or `"max"` as the built metric called `name` declares it, else `None`.

    Keras's metrics say so in `_direction`, and the compiled ones are nested in containers:
    https://github.com/keras-team/keras/blob/v3.15.1/keras/src/callbacks/monitor_callback.py
    """
    pending = list(getattr(model, "metrics", None) or [])
    while pending:
        metric = pending.pop(0)
        nested = getattr(metric, "metrics", None)
        if nested:
            pending.extend(nested)
        if getattr(metric, "name", None) == name and hasattr(metric, "_direction"):
            return "max" if metric._direction == "up" else "min"
    return None


def averaged_variables(model: Any) -> list[tuple[Any, Any]]:
    """Each trainable variable with the optimizer's moving average of it; empty without `use_ema`.

    The averages have no public accessor:
    https://github.com/keras-team/keras/blob/v3.15.1/keras/src/optimizers/base_optimizer.py
    """
    optimizer: Any = getattr(model, "optimizer", None)
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if not getattr(optimizer, "use_ema", False) or not optimizer.built:
        return []
    averages = optimizer._model_variables_moving_average
    pairs = zip(model.trainable_variables, averages, strict=True)
    return [(variable, average) for variable, average in pairs if average is not None]


def optimized_variables(optimizer: Any) -> list[Any]:
    """The variables that an optimizer was built for; empty before that, or if it does not say.

    https://github.com/keras-team/keras/blob/v3.15.1/keras/src/optimizers/base_optimizer.py
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    return list(getattr(optimizer, "_trainable_variables", [])) if optimizer.built else []


def metrics_built(model: Any) -> bool:
    """Whether the compiled metrics exist; on TensorFlow they come with the first step.

    https://github.com/keras-team/keras/blob/v3.15.1/keras/src/trainers/trainer.py
    """
    compiled = getattr(model, "_compile_metrics", None)
    return compiled is None or bool(getattr(compiled, "built", False))


def raw_value(variable: Any) -> Any:
    """What a variable holds, or `None` while a JAX step has taken it (`Variable._value`).

    The public `value` gives a new initial value then, which would be saved as if it were trained:
    https://github.com/keras-team/keras/blob/v3.15.1/keras/src/backend/common/variables.py
    """
    return variable._value


def detached_optimizer_values(model: Any) -> Any:
    """JAX: the optimizer's values while they are out of its variables, else `None`.

    Within an epoch of `fit`, from its second batch on, they are in `model._jax_state` (a copy of
    the list that the loop passes to the next step), unless somebody has synchronised:
    https://github.com/keras-team/keras/blob/v3.15.1/keras/src/backend/jax/trainer.py
    """
    if backend() != "jax":
        return None
    state = getattr(model, "_jax_state", None)
    if not state or getattr(model, "_jax_state_synced", True):
        return None
    return state["optimizer_variables"]


def flat_layers(model: Any) -> list[Any]:
    """The model and every layer in it, at any depth (`Layer._flatten_layers`).

    https://github.com/keras-team/keras/blob/v3.15.1/keras/src/layers/layer.py
    """
    return list(model._flatten_layers())
