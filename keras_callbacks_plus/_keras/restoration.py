"""The variables of a snapshot on their way into a model that may not have all of them yet."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_callbacks_plus._keras import building, compat, training_state
from keras_callbacks_plus._keras.fit_scope import FitScope
from keras_callbacks_plus._keras.held_parts import variable_groups
from keras_callbacks_plus._keras.random_state import capture_random_state, restore_random_state
from keras_callbacks_plus.errors import ResumeError

__all__ = ["Restoration"]


class Restoration:
    """Puts the variables of a snapshot back.

    Args:
        scope: The running `fit`.
        saved: The snapshot.
        rates: The learning rates that the script has set now; they go before the saved ones.
    """

    def __init__(self, scope: FitScope, saved: dict[str, Any], rates: list[float] | None) -> None:
        self._scope = scope
        self._model = scope.model
        self._saved = saved
        self._rates = rates
        self._early: list[Any] | None = None

    def build(self) -> None:
        """Makes what a first step would make, as far as that can be done without one."""
        spec = compat.batch_spec(self._scope.epoch_iterator)
        building.build_as_saved(self._model, self._saved["build_config"], spec)

    @property
    def fits(self) -> bool:
        """Whether there is a variable for each value."""
        return training_state.fits(self._model, self._saved["model"])

    def put_back_finished(self) -> None:
        """Puts all variables back as a run has left them that has ended.

        Raises:
            ResumeError: If the model has yet to be built, and there is no step that could.
            RunMismatchError: If they are not those of this model.
        """
        if not self.fits and compat.backend() != "jax":
            raise ResumeError(self.what_is_missing())
        self.put_back(rates=False)

    def put_back(self, *, rates: bool = True) -> None:
        """Puts all variables back.

        Args:
            rates: Whether a rate that the script has changed since is taken over.

        Raises:
            RunMismatchError: If they are not those of this model.
        """
        training_state.assign_model(self._model, self._saved["model"])
        if rates:
            self._set_rates()

    def put_back_within(self, final: bool) -> bool:
        """Puts the variables and the metrics' accumulators back, within an epoch.

        Args:
            final: Whether all of them must be there by now.

        Returns:
            Whether there was a variable for each: TensorFlow makes some in the first step only.

        Raises:
            ResumeError: If they must be there, and are not.
        """
        if self.fits:
            self.put_back()
            return self._put_back_metrics(final)
        if final:
            raise ResumeError(self.what_is_missing())
        return False

    def _put_back_metrics(self, final: bool) -> bool:
        saved = self._saved["metrics"]
        whole = training_state.assign_metrics(self._model, saved)
        if final and not whole:
            raise ResumeError(
                f"{len(saved)} values of metrics were saved within the epoch, and the model has "
                f"{len(self._model.metrics_variables)} variables for them. Compile the model with "
                "the metrics that it had, or resume from the end of an epoch."
            )
        return whole

    def put_back_at_epoch(self) -> None:
        """Puts back what there is a variable for; the first step will do so with the rest."""
        if self.fits:
            self.put_back()
            return
        self._early = training_state.assign_early(self._model, self._saved["model"])
        self._set_rates()

    def complete_in_first_step(self) -> None:
        """Has what only a step can make made by the first one, which is then undone and repeated.

        Raises:
            RunMismatchError: On a backend where `fit` has built everything by itself.
        """
        if compat.backend() == "jax":
            self.put_back()
        self._scope.wrap_train_function(self._twice)

    def _twice(self, inner: Callable[..., Any]) -> Callable[..., Any]:
        waiting = True

        def train(data: Any) -> Any:
            nonlocal waiting
            if not waiting:
                return inner(data)
            waiting = False
            batches = None
            if compat.backend() == "tensorflow":  # whose step takes them from an iterator
                batches = list(itertools.islice(data, int(self._model.steps_per_execution)))

            def again() -> Any:
                return data if batches is None else self._iterator_over(batches)

            if batches == []:
                return inner(data)
            random_state = capture_random_state()
            values = [(v, np.array(compat.to_numpy(v.value))) for v in self._early or []]
            inner(again())
            training_state.assign_model(self._model, self._saved["model"])
            for variable, value in values:  # a callback may have changed it since
                variable.assign(value)
            self._model.reset_metrics()
            restore_random_state(random_state)
            return inner(again())

        return train

    def _iterator_over(self, batches: list[Any]) -> Any:
        """Of the same type as the loop's, so that the step is not traced anew."""
        import tensorflow as tf

        spec = compat.batch_spec(self._scope.epoch_iterator)
        if spec is None:
            raise ResumeError(self.what_is_missing())
        return iter(tf.data.Dataset.from_generator(lambda: iter(batches), output_signature=spec))

    def what_is_missing(self) -> str:
        """Why the values cannot be put back, and what to do."""
        saved = sum(map(len, self._saved["model"].values()))
        there = sum(map(len, variable_groups(self._model).values()))
        return (
            f"{saved} values were saved and the model has {there} variables: the others are made "
            "by its training step only. Build the model before `fit` (call it on a batch of the "
            "data), and each optimizer (`optimizer.build(variables)`)."
        )

    def _set_rates(self) -> None:
        saved, now = self._saved["rates"], self._rates
        if now is not None and saved is not None and saved != now and len(saved) == len(now):
            training_state.set_rates(self._model, now)
