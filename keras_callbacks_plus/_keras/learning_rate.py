"""The learning rate of an optimizer, and of a running `fit`: reading it and setting it."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, ClassVar

import keras
import numpy as np

from keras_callbacks_plus._keras import compat
from keras_callbacks_plus._keras.fit_scope import FitScope
from keras_callbacks_plus.errors import UnsupportedLearningRateError

__all__ = [
    "LiveLearningRate",
    "assign",
    "optimizers_of",
    "owns_schedule",
    "read",
    "to_number",
]


def optimizers_of(optimizer: Any) -> list[Any]:
    """The optimizers that hold a rate: that one, or the parts of a `MultiOptimizer`."""
    return list(getattr(optimizer, "optimizers", [optimizer]))


def owns_schedule(optimizer: Any) -> bool:
    """Whether an optimizer computes its rate (a schedule or a callable), so that none can be set.

    Raises:
        UnsupportedLearningRateError: If the optimizer has no learning rate at all.
    """
    return _rate_variable(optimizer) is None


def read(optimizer: Any) -> float:
    """The rate in force, whether it was set or is computed.

    On JAX, in the middle of an epoch, use `LiveLearningRate` instead.
    """
    return float(to_number(optimizer.learning_rate))


def to_number(scalar: Any) -> Any:
    """The NumPy scalar in a scalar variable or tensor of any backend."""
    # By way of a tensor: NumPy 2.4 warns of a variable's `__array__`, which takes no `copy`.
    return keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(scalar))


def assign(optimizer: Any, value: float) -> None:
    """Sets the rate.

    On JAX, in the middle of an epoch, use `LiveLearningRate` instead.

    Raises:
        UnsupportedLearningRateError: If the optimizer owns a schedule.
    """
    _settable(optimizer).assign(value)


def _settable(optimizer: Any) -> Any:
    """The variable that holds the rate; raises if there is none."""
    variable = _rate_variable(optimizer)
    if variable is None:
        raise UnsupportedLearningRateError(
            "This optimizer was created with a `LearningRateSchedule` object (or a callable) as "
            "its `learning_rate`, hence no callback can set it. Give the optimizer a plain number, "
            "such as `keras.optimizers.Adam(learning_rate=0.001)`, and let the callback set the "
            "rate; or keep the schedule in the optimizer and leave the callback out."
        )
    return variable


def _rate_variable(optimizer: Any) -> Any:
    """The variable that holds the rate, or `None` if it is computed."""
    if not hasattr(optimizer, "learning_rate"):
        raise UnsupportedLearningRateError(
            'Optimizer must have a "learning_rate" attribute. '
            f"Received: {type(optimizer).__module__}.{type(optimizer).__qualname__}. "
            "Compile the model with an optimizer of `keras.optimizers`."
        )
    rate = optimizer.learning_rate
    return rate if any(rate is variable for variable in optimizer.variables) else None


class LiveLearningRate:
    """The learning rate and the step of a running `fit`, at any moment of it.

    On JAX, Keras takes the values out of the variables for the length of an epoch. `self.model`
    puts them all back, which costs time in proportion to their number, on every batch. This class
    reads and replaces the two scalars where Keras keeps them meanwhile.

    Make one in `on_train_begin`.

    Args:
        model: The model being trained.
        scope: The running `fit`, if the rate is to be set within an epoch. Without one it still
            can be, on JAX the slow way.

    Raises:
        UnsupportedLearningRateError: If an optimizer has no rate that can be set.
    """

    def __init__(self, model: Any, scope: FitScope | None = None) -> None:
        self._model = model
        if not model.optimizer.built and not optimizers_of(model.optimizer):
            # A `MultiOptimizer` that is given a function learns its parts when it is built, which
            # on TensorFlow and PyTorch the first step would do.
            model.optimizer.build(model.trainable_variables)
        self.optimizers = optimizers_of(model.optimizer)
        self._rates = [_settable(optimizer) for optimizer in self.optimizers]
        self._steps = [_step_variable(optimizer) for optimizer in self.optimizers]
        self._positions: dict[int, int] = {}
        self._replacements = None
        if scope is not None and compat.backend() == "jax":
            self._replacements = _Replacements.of(scope)

    @property
    def is_split(self) -> bool:
        """Whether the model has a `MultiOptimizer`, whose parts go by their names."""
        return self._model.optimizer not in self.optimizers

    @property
    def may_skip_steps(self) -> bool:
        """Whether a batch may pass without a step: a loss scaler drops non-finite gradients."""
        return isinstance(self._model.optimizer, keras.optimizers.LossScaleOptimizer)

    def step(self) -> int:
        """The number that Keras gives a schedule inside the optimizer for its next step.

        It counts batches, also under `gradient_accumulation_steps` (where `optimizer.iterations`
        counts updates).
        """
        return max(int(self._get(variable)) for variable in self._steps)

    def read(self, index: int = 0) -> float:
        """The rate of one of `optimizers`."""
        return float(self._get(self._rates[index]))

    def assign(self, value: float, index: int | None = None) -> None:
        """Sets the rate of one of `optimizers`, or of all."""
        for variable in self._rates if index is None else [self._rates[index]]:
            self._set(variable, value)

    def _get(self, variable: Any) -> Any:
        taken = compat.detached_optimizer_values(self._model)
        return to_number(variable if taken is None else taken[self._position(variable)])

    def _set(self, variable: Any, value: float) -> None:
        taken = compat.detached_optimizer_values(self._model)
        if taken is not None and self._replacements is not None:
            self._replacements.put(taken, self._position(variable), value)
            return
        if taken is not None:
            self._model.jax_state_sync()
        variable.assign(value)

    def _position(self, variable: Any) -> int:
        variables = self._model.optimizer.variables
        known = self._positions.get(id(variable), len(variables))
        if known < len(variables) and variables[known] is variable:
            return known
        for position, candidate in enumerate(variables):
            if candidate is variable:
                self._positions[id(variable)] = position
                return position
        raise UnsupportedLearningRateError(
            "The optimizer's learning rate was replaced while `fit` was running. Set a number "
            "(`optimizer.learning_rate.assign(0.001)`) instead of another schedule."
        )


class _Replacements:
    """JAX: values that take the place of others in the state that the next step is called with.

    One for each running `fit`, so that the last callback to set a value wins.
    """

    _OF_SCOPE: ClassVar[weakref.WeakKeyDictionary[FitScope, _Replacements]] = (
        weakref.WeakKeyDictionary()
    )

    def __init__(self) -> None:
        # Position -> (value that the loop holds, value that is to take its place).
        self._pending: dict[int, tuple[Any, Any]] = {}

    @classmethod
    def of(cls, scope: FitScope) -> _Replacements:
        found = cls._OF_SCOPE.get(scope)
        if found is None:
            found = cls._OF_SCOPE[scope] = cls()
            scope.wrap_train_function(found.wrap)
        return found

    def put(self, taken: Any, position: int, value: float) -> None:
        held, _ = self._pending.get(position, (taken[position], None))
        new = np.asarray(
            value, held.dtype
        )  # the compiled step takes it; a tensor costs 50 times more
        self._pending[position] = (held, new)
        taken[position] = new  # for whoever synchronises or reads before the step

    def wrap(self, train_function: Callable[..., Any]) -> Callable[..., Any]:
        def step(state: Any, iterator: Any) -> Any:
            if self._pending:
                values = list(state[2])  # trainable, non-trainable, *optimizer*, metrics
                for position, (held, new) in self._pending.items():
                    # Otherwise somebody has synchronised meanwhile, and perhaps set another rate.
                    if values[position] is held:
                        values[position] = new
                self._pending.clear()
                state = (*state[:2], values, *state[3:])
            return train_function(state, iterator)

        return step


def _step_variable(optimizer: Any) -> Any:
    """The raw counter behind `optimizer.iterations`.

    `iterations` divides it by `gradient_accumulation_steps`, a schedule is given it as it is:
    https://github.com/keras-team/keras/blob/v3.15.1/keras/src/optimizers/base_optimizer.py
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    for variable in inner.variables:
        if variable.name == "iteration":
            return variable
    return inner.iterations
