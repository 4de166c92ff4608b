"""The first epoch of a run that was resumed within it: the batches already done are passed over.

Keras has no way to begin an epoch elsewhere than at its first batch. What its loop iterates over
is replaced for one epoch: all but the last of the executions already done are taken from the data
without the loop seeing them. The last one goes through the loop, so that it leaves what the loop
keeps between batches, with a train function that answers with the saved logs and trains nothing;
no callback is told of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

from keras_callbacks_plus._keras import compat
from keras_callbacks_plus._keras.fit_scope import FitScope
from keras_callbacks_plus.errors import ResumeError

__all__ = ["FastForward", "pull"]


class FastForward:
    """Passes over the executions already done, once.

    Args:
        scope: The running `fit`.
        executions: How many are done; at least one. An execution is `steps_per_execution` batches.
        logs: What the last of them logged.
        seeks: Whether the data begins at the last of them by itself.
        before_data: Called before the first batch is taken from the data. Not on PyTorch, whose
            loop takes it before any callback sees the batch begin.
        put_back: Puts the variables back; returns whether there was a place for all of them.
            TensorFlow makes those of the metrics in the first step only. Told whether there must
            be, it raises if there is not.
        between: Called before each batch that is passed over; may end `fit`.
        arrived: Called when the data stands at the position.
    """

    def __init__(
        self,
        scope: FitScope,
        executions: int,
        *,
        logs: Any,
        seeks: bool,
        before_data: Callable[[], None],
        put_back: Callable[[bool], bool],
        between: Callable[[], None],
        arrived: Callable[[], None],
    ) -> None:
        self._scope = scope
        self._last = executions - 1
        self._logs = logs
        self._seeks = seeks
        self._before_data = before_data
        self._put_back = put_back
        self._between = between
        self._arrived = arrived
        self._waiting = True
        self._passing = False
        self._whole = True

    def begin(self) -> None:
        """Takes effect in the epoch that is about to begin."""
        self._scope.wrap_iteration(compat.ENUMERATION, self._enumeration)
        self._scope.wrap_train_function(self._train_function)

    def _enumeration(self, inner: Callable[[], Any]) -> Callable[[], Any]:
        def enumerate_rest() -> Iterator[Any]:
            if not self._waiting:
                yield from inner()
                return
            self._waiting = False
            number = -1
            for number, item in enumerate(inner()):
                if number == 0 and compat.backend() != "torch":
                    self._before_data()
                if number < self._last:
                    if not self._seeks:
                        self._between()
                        pull(self._scope.model, item[-1])
                    continue
                if number == self._last:
                    self._whole = self._put_back(compat.backend() == "jax")
                    self._passing = True
                    self._scope.mute_next_batch()
                yield item
            if number < self._last:
                raise ResumeError(
                    f"The data ended after {number + 1} executions of the epoch, and "
                    f"{self._last + 1} were done when the snapshot was taken. Pass the data that "
                    "the run began with, or name another `backup_dir` to start afresh."
                )

        return enumerate_rest

    def _train_function(self, inner: Callable[..., Any]) -> Callable[..., Any]:
        def train(*arguments: Any) -> Any:
            if not self._passing:
                return inner(*arguments)
            self._passing = False
            if not self._whole:
                inner(*arguments)  # makes what TensorFlow makes in a step; all of it is put back
                self._put_back(True)
            elif compat.backend() != "torch":  # whose loop has taken the batch itself
                pull(self._scope.model, arguments[-1])
            self._arrived()
            return (self._logs, arguments[0]) if compat.backend() == "jax" else self._logs

        return train


def pull(model: Any, iterator: Any) -> None:
    """Takes the batches of an execution from the iterator that the loop hands to it.

    Args:
        model: The model being trained.
        iterator: The iterator.
    """
    for _batch in itertools.islice(iterator, _pulls_per_execution(model)):
        pass


def _pulls_per_execution(model: Any) -> int:
    """How many items an execution takes from the iterator that the loop hands to it.

    From Keras 3.16 on, JAX's iterator gives all batches of an execution as one item:
    https://github.com/keras-team/keras/blob/master/keras/src/backend/jax/trainer.py
    """
    stacked = compat.backend() == "jax" and compat.keras_version() >= (3, 16)
    return 1 if stacked else int(model.steps_per_execution)
