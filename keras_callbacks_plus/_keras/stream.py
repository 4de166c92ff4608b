"""One pass over the data that goes on from epoch to epoch (`steps_per_epoch`), and its replay.

Keras keeps the iterator over the data from one epoch to the next then. No state of an iterator can
be read, so a resumed run makes it anew, as it was made, and takes from it what had been taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from keras_callbacks_plus._keras import compat
from keras_callbacks_plus._keras.fast_forward import pull
from keras_callbacks_plus._keras.fit_scope import FitScope
from keras_callbacks_plus._keras.random_state import capture_random_state, restore_random_state

__all__ = ["Stream"]


class Stream:
    """Follows the pass over the data of a running `fit`; without `steps_per_epoch`, does nothing.

    Args:
        scope: The running `fit`, in `on_train_begin`.

    Attributes:
        input_state: Set to what returns the state of the input.
    """

    def __init__(self, scope: FitScope) -> None:
        self._scope = scope
        self._iterator = scope.epoch_iterator
        self._made = 0
        self._begun: dict[str, Any] | None = None
        self._replay: tuple[int, Callable[[], None]] | None = None
        self._replaying = False
        self.input_state: Callable[[], Any] = lambda: None
        if self._iterator.steps_per_epoch is not None:
            scope.wrap_iteration(compat.NEW_PASS, self._new_pass)
            scope.wrap_iteration(compat.ENUMERATION, self._enumeration)
            if compat.backend() != "torch":  # whose loop takes a batch before this
                scope.at("after_train_batch_begin", lambda *_: self.first_taken(), last=True)

    def capture(self) -> dict[str, Any]:
        """Where the pass stands, between two epochs.

        Returns:
            How many iterators were made, how the one in use was begun (`None` where the next epoch
            makes one), and how many batches were taken from it.
        """
        taken = compat.batches_taken(self._iterator)
        begun = self._begun if taken is not None else None
        return {"made": self._made, "begun": begun, "taken": taken or 0}

    def restore(self, state: dict[str, Any], after: Callable[[], None]) -> None:
        """Has the pass brought to its place when the epoch takes its first batch.

        Args:
            state: What `capture` returned.
            after: Called when it is there.
        """
        self._made, self._begun = state["made"], state["begun"]
        if self._begun is not None:
            self._begun = dict(self._begun)
            self._replay = state["taken"], after

    def _new_pass(self, inner: Callable[[], Any]) -> Callable[[], Any]:
        def make() -> Any:
            if not self._replaying:
                self._begun = {
                    "random": capture_random_state(),
                    "random_at_data": None,
                    "input": self.input_state(),
                    "before": self._made,
                }
                self._made += 1
            return inner()

        return make

    def _enumeration(self, inner: Callable[[], Any]) -> Callable[[], Any]:
        def enumerate_epoch() -> Iterator[Any]:
            items = inner()
            if self._replay is not None:
                items = self._replayed(items, *self._replay)
                self._replay = None
            for item in items:
                if compat.backend() == "torch":
                    self.first_taken()
                yield item

        return enumerate_epoch

    def first_taken(self, state: dict[str, Any] | None = None) -> None:
        """Before a batch is taken: an order may be drawn with the first one.

        Args:
            state: Of the random generators, where it is not as it is now.
        """
        if self._begun is not None and self._begun["random_at_data"] is None:
            self._begun["random_at_data"] = state or capture_random_state()

    def _replayed(
        self, items: Iterator[Any], taken: int, after: Callable[[], None]
    ) -> Iterator[Any]:
        assert self._begun is not None
        now = capture_random_state()
        restore_random_state(self._begun["random"])
        self._replaying = True
        first = next(items)  # makes the iterator
        self._replaying = False
        if self._begun["random_at_data"] is not None:
            restore_random_state(self._begun["random_at_data"])
        model = self._scope.model
        for _ in range(taken // int(model.steps_per_execution)):
            pull(model, first[-1])
        compat.note_batches_taken(self._iterator, taken)
        after()
        restore_random_state(now)
        yield first
        yield from items
