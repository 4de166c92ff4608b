"""The variables of a run as arrays, and its learning rates."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable
from typing import Any

import keras

from keras_callbacks_plus._keras import compat, learning_rate, snapshot
from keras_callbacks_plus._keras.held_parts import optimizer_variables, optimizers, variable_groups
from keras_callbacks_plus._keras.host_view import host_view
from keras_callbacks_plus.errors import RunMismatchError

__all__ = [
    "ModelCopies",
    "assign_early",
    "assign_iterations",
    "assign_metrics",
    "assign_model",
    "capture_metrics",
    "configured_rates",
    "fits",
    "iterations",
    "rates_left_noted",
    "plain_logs",
    "set_rates",
    "variable_names",
]

# By the optimizer: the rates that a script has set, and those that a `fit` has left.
_RATES_LEFT: weakref.WeakKeyDictionary[Any, tuple[list[float], list[float] | None]] = (
    weakref.WeakKeyDictionary()
)


class ModelCopies:
    """The variables of a model in host memory, as often as they are asked for.

    Args:
        model: The model being trained.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._copies = snapshot.VariableCopies()

    def take(self) -> dict[str, list[Any]]:
        """Copies every variable; on JAX the model's state is attached first.

        Returns:
            Arrays by the names of `variable_groups`, in the order of its lists. The next call fills
            them again, which is several times faster than fresh memory.
        """
        compat.recover_state_after_failure(self._model)
        groups = variable_groups(self._model)
        variables = [variable for group in groups.values() for variable in group]
        copies = iter(self._copies.take(variables))
        return {name: list(itertools.islice(copies, len(group))) for name, group in groups.items()}


def variable_names(model: Any) -> dict[str, list[str]]:
    """The path of each variable that `ModelCopies` takes, for those who read a snapshot."""
    return {name: [v.path for v in variables] for name, variables in variable_groups(model).items()}


def fits(model: Any, arrays: dict[str, list[Any]]) -> bool:
    """Whether there is a variable for each array that `ModelCopies.take` returned, and no other.

    Args:
        model: The model.
        arrays: The arrays.
    """
    groups = variable_groups(model)
    return groups.keys() == arrays.keys() and all(
        len(variables) == len(arrays[name]) for name, variables in groups.items()
    )


def assign_model(model: Any, arrays: dict[str, list[Any]]) -> None:
    """Puts back what `ModelCopies.take` returned, by position.

    Args:
        model: A built model with a built optimizer.
        arrays: The arrays.

    Raises:
        RunMismatchError: If they are not those of this model.
    """
    compat.recover_state_after_failure(model)
    groups = variable_groups(model)
    if groups.keys() != arrays.keys():
        names = sorted(groups.keys() ^ arrays.keys())
        raise RunMismatchError(
            f"The saved values are not those of this model: {', '.join(names)} is in one of the "
            "two only. Build the model, and its optimizers, as it was saved.",
            names,
        )
    for name, variables in groups.items():
        snapshot.assign_variables(variables, arrays[name])


def assign_early(model: Any, arrays: dict[str, list[Any]]) -> list[Any]:
    """Puts back what there is a variable for, while others are still to be made.

    Args:
        model: The model.
        arrays: What `ModelCopies.take` returned.

    Returns:
        The variables that have their value.
    """
    done = []
    for name, variables in variable_groups(model).items():
        saved = arrays.get(name, [])
        optimizer = optimizers(model).get(name)
        # the steps and the rate, which an optimizer has from its beginning, come first
        begun = optimizer is not None and not hasattr(optimizer, "inner_optimizer")
        if len(variables) == len(saved) or (begun and len(variables) < len(saved)):
            snapshot.assign_variables(variables, saved[: len(variables)])
            done += variables
    return done


def capture_metrics(model: Any) -> list[Any]:
    """Copies the accumulators of the metrics; on JAX, of a model whose state is attached.

    Args:
        model: The model being trained.
    """
    return snapshot.VariableCopies().take(model.metrics_variables)


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


def iterations(model: Any) -> list[int]:
    """The steps of the optimizer, or of its parts; on JAX, of a model whose state is attached."""
    return [int(host_view(variable)) for variable in _steps(model)]


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
    return [
        variable
        for optimizer in optimizers(model).values()
        for variable in optimizer_variables(optimizer)
        if variable.name == "iteration"
    ]


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
    now = [learning_rate.read(part) for part in parts]
    configured, left = _RATES_LEFT.get(optimizer, (now, None))
    return configured if now == left else now


def rates_left_noted(model: Any, configured: list[float] | None) -> Callable[[], None]:
    """What remembers, when a `fit` ends, the learning rates it ends with: no script has set those.

    The next `fit` with the same optimizer (a cell of a notebook that is run again) finds them.

    Args:
        model: The model that is trained; a callback may take its optimizer away.
        configured: What `configured_rates` returned when it began.
    """
    optimizer = model.optimizer

    def note() -> None:
        if configured is not None:
            parts = learning_rate.optimizers_of(optimizer)
            _RATES_LEFT[optimizer] = configured, [learning_rate.read(part) for part in parts]

    return note


def set_rates(model: Any, rates: list[float]) -> None:
    """Sets the learning rates.

    Args:
        model: The model; on JAX, between two epochs.
        rates: What `configured_rates` returned.
    """
    for part, rate in zip(learning_rate.optimizers_of(model.optimizer), rates, strict=True):
        learning_rate.assign(part, rate)
