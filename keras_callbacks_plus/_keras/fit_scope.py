"""The running `fit`: its whole callback list, the moments between everybody's hooks, how it ends.

Keras gives a callback no way to see its neighbours, to run after all of them, or to learn that
`fit` is being left by an exception. One `FitScope` for each running `fit` gives all three, by
wrapping methods on *instances* (the callback list, the epoch iterator, the model) and putting
every one of them back when `fit` ends. No Keras class is touched. What outlives a `fit` (the model,
the process's signal handlers) is touched from the first epoch on only: an exception in somebody's
`on_train_begin` is one that no hook can see, and it must leave nothing behind.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Literal

from keras_callbacks_plus._keras import compat
from keras_callbacks_plus.errors import InvalidArgumentError

__all__ = ["FailurePhase", "FitScope", "Moment"]

_LOGGER = logging.getLogger("keras_callbacks_plus")

Moment = Literal[
    "after_train_begin",
    "before_epoch_begin",
    "after_epoch_begin",
    "before_train_batch_begin",
    "after_train_batch_begin",
    "after_train_batch_end",
    "before_test_begin",
    "after_epoch_end",
    "before_train_end",
    "after_train_end",
]
"""When a handler runs: before or after that hook of *every* callback, `History` included."""

FailurePhase = Literal["save", "restore", "close"]
"""Handlers of a failing `fit` run in this order: what keeps the live state comes first."""

_PHASES: tuple[FailurePhase, ...] = ("save", "restore", "close")
_LIST_HOOKS = {
    "before_epoch_begin": "on_epoch_begin",
    "after_epoch_begin": "on_epoch_begin",
    "before_train_batch_begin": "on_train_batch_begin",
    "after_train_batch_begin": "on_train_batch_begin",
    "after_train_batch_end": "on_train_batch_end",
    "before_test_begin": "on_test_begin",
    "after_epoch_end": "on_epoch_end",
    "before_train_end": "on_train_end",
    "after_train_end": "on_train_end",
}

# Attribute of Keras's callback list, which lives as long as one `fit` does.
_SCOPE = "_keras_callbacks_plus_scope"


class FitScope:
    """What a callback can know of, and do to, the `fit` it runs in.

    Use `FitScope.of(self)` in `on_train_begin`; all callbacks of one `fit` share one scope.

    Attributes:
        model: The model being trained.
        callback_list: Keras's list of all callbacks.
        epoch_iterator: Keras's iterator over the batches of an epoch.

    Attributes:
        sigint_before: What answered Ctrl-C before this `fit`.
    """

    def __init__(self, model: Any, callback_list: Any, epoch_iterator: Any) -> None:
        self.model = model
        self.callback_list = callback_list
        self.epoch_iterator = epoch_iterator
        self._handlers: dict[str, list[Callable[..., None]]] = {}
        self._failure: dict[FailurePhase, list[Callable[[BaseException], None]]] = {}
        self._undo: list[Callable[[], None]] = []
        self._after_close: list[Callable[[], None]] = []
        self._last: dict[str, list[Callable[..., None]]] = {}
        self._wrapped_hooks: set[str] = set()
        self._muted_batch = False
        self._failed: BaseException | None = None
        self._interrupt: tuple[int, FrameType | None] | None = None
        self.sigint_before: Any = None
        self._watching = False
        self._ending = False
        self._hooks_running = 0
        self._at_first_epoch: list[Callable[[], None]] = []
        self._wrap_hook("on_train_end")

    @classmethod
    def of(cls, callback: Any) -> FitScope | None:
        """The scope of the `fit` that is calling `callback.on_train_begin` now.

        Args:
            callback: The callback whose `on_train_begin` is running.

        Returns:
            The scope, or `None` where the hook was not called by `fit` (a training loop of one's
            own): then there is nothing to see and no failure to learn of.

        Raises:
            InvalidArgumentError: If the callback is in the list twice.
        """
        found = compat.running_fit(callback)
        if found is None:
            return None
        model, callback_list, epoch_iterator = found
        if sum(member is callback for member in callback_list.callbacks) > 1:
            raise InvalidArgumentError(
                "callbacks",
                [type(member).__name__ for member in callback_list.callbacks],
                "a list with each callback once",
                f"Remove one {type(callback).__name__}: each of its hooks would run twice.",
            )
        scope: FitScope | None = getattr(callback_list, _SCOPE, None)
        if scope is not None and scope.epoch_iterator is epoch_iterator:
            return scope
        if scope is not None:  # the user's own list, left behind by a `fit` that did not begin
            scope.close()
        scope = cls(model, callback_list, epoch_iterator)
        setattr(callback_list, _SCOPE, scope)
        return scope

    @property
    def callbacks(self) -> list[Any]:
        """All callbacks of the running `fit`, Keras's own `History` and progress bar included."""
        return [c for c in self.callback_list.callbacks if not isinstance(c, _Last)]

    def at(self, moment: Moment, handler: Callable[..., None], *, last: bool = False) -> None:
        """Calls `handler` with the hook's arguments at `moment`, until this `fit` ends.

        Args:
            moment: When to call it.
            handler: Takes what the hook takes: `(epoch, logs)`, `(batch, logs)` or `(logs,)`.
            last: Whether it comes after the handlers of all other callbacks, wherever its own
                stands in the list.
        """
        (self._last if last else self._handlers).setdefault(moment, []).append(handler)
        if moment == "after_train_begin":  # this hook is running: the loop will come to `_Last`
            self.callback_list.callbacks.append(_Last(self.callback_list.callbacks, handler))
            return
        self._wrap_hook(_LIST_HOOKS[moment])

    def on_failure(self, phase: FailurePhase, handler: Callable[[BaseException], None]) -> None:
        """Calls `handler(error)` once if this `fit` is left by an exception or Ctrl-C.

        The model is usable when the handler runs. Handlers of phase `"save"` run first, then
        `"restore"`, then `"close"`. An error in a handler is logged and does not replace the
        exception that ends `fit`.

        Args:
            phase: What the handler does.
            handler: Takes the exception.
        """
        self._failure.setdefault(phase, []).append(handler)
        if not self._watching:
            self._watching = True
            self._watch_fit()
            self._from_first_epoch(self._watch_model)
            self._from_first_epoch(self._shield_from_interrupts)

    def at_close(self, action: Callable[[], None]) -> None:
        """Calls `action` when this `fit` ends, however it does.

        Args:
            action: Puts back what the caller has changed.
        """
        self._undo.append(action)

    def after_close(self, action: Callable[[], None]) -> None:
        """Calls `action` when this `fit` has ended and everything is as it was.

        Args:
            action: May raise, which then is how `fit` is left.
        """
        self._after_close.append(action)

    def wrap_train_function(self, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """Replaces `model.train_function` by `wrap(train_function)` until this `fit` ends.

        Args:
            wrap: Takes the function that runs a training step and returns the one to use.
        """

        def put() -> None:
            self._put(self.model, "train_function", wrap(self.model.train_function))

        self._from_first_epoch(put)

    def wrap_iteration(self, name: str, wrap: Callable[[Callable[[], Any]], Any]) -> None:
        """Replaces a method of the epoch iterator until `fit` ends.

        Args:
            name: `compat.ENUMERATION` (what an epoch iterates over: one item for each execution)
                or `compat.NEW_PASS` (what a new pass over the data iterates over).
            wrap: Takes the method and returns the one to use.
        """
        self._put(self.epoch_iterator, name, wrap(getattr(self.epoch_iterator, name)))

    def mute_next_batch(self) -> None:
        """Hides the next training batch, its beginning and its end, from every callback."""
        self._wrap_hook("on_train_batch_begin")
        self._wrap_hook("on_train_batch_end")
        self._muted_batch = True

    def flush_batch_hooks(self) -> None:
        """Waits for the batch hooks that Keras dispatched to other threads."""
        compat.flush_batch_hooks(self.callback_list)

    def close(self) -> None:
        """Puts everything back as it was. Does nothing the second time."""
        self._handlers.clear()
        self._last.clear()
        self._failure.clear()
        self._at_first_epoch.clear()
        self._wrapped_hooks.clear()
        with contextlib.ExitStack() as stack:  # which goes on after an error, and raises it then
            while self._undo:
                stack.callback(self._undo.pop(0))
        if getattr(self.callback_list, _SCOPE, None) is self:
            delattr(self.callback_list, _SCOPE)
        while self._after_close:
            self._after_close.pop(0)()

    # ---------------------------------------------------------------- wrapping

    def _from_first_epoch(self, action: Callable[[], None]) -> None:
        self._wrap_hook("on_epoch_begin")
        self._at_first_epoch.append(action)

    def _put(self, owner: Any, name: str, value: Any) -> None:
        own = vars(owner)
        had, before = name in own, own.get(name)
        object.__setattr__(owner, name, value)

        def undo() -> None:
            if had:
                object.__setattr__(owner, name, before)
            elif name in vars(owner):
                object.__delattr__(owner, name)

        self._undo.append(undo)

    def _wrap_hook(self, name: str) -> None:
        if name in self._wrapped_hooks:
            return
        self._wrapped_hooks.add(name)
        inner = getattr(self.callback_list, name)
        moment = name.removeprefix("on_")
        before = self._handlers.setdefault(f"before_{moment}", [])
        after = self._handlers.setdefault(f"after_{moment}", [])
        before_last = self._last.setdefault(f"before_{moment}", [])
        after_last = self._last.setdefault(f"after_{moment}", [])
        of_batches = name in ("on_train_batch_begin", "on_train_batch_end")
        may_end_data = compat.handles_end_of_data(name)

        def hook(*args: Any, **kwargs: Any) -> None:
            if of_batches and self._muted_batch:
                self._muted_batch = name == "on_train_batch_begin"
                return
            if name == "on_epoch_begin":
                while self._at_first_epoch:
                    self._at_first_epoch.pop(0)()
            self._ending = name == "on_train_end"
            self._hooks_running += 1
            try:
                self._deliver_interrupt()
                for handlers in (before, before_last):
                    for handler in handlers:
                        handler(*args, **kwargs)
                inner(*args, **kwargs)
                for handlers in (after, after_last):
                    for handler in handlers:
                        handler(*args, **kwargs)
                self._deliver_interrupt(at_end=name == "on_epoch_end")
            except BaseException as error:
                if not (may_end_data and compat.is_end_of_data(error)):
                    self._fail(error)
                raise
            finally:
                self._hooks_running -= 1
            if self._ending:
                self.close()
                self._deliver_interrupt()

        self._put(self.callback_list, name, hook)

    def _watch_fit(self) -> None:
        """Everything of `fit` that can raise runs inside one of these calls or those below."""
        for name in ("on_epoch_begin", "on_epoch_end", "on_train_batch_begin", "on_test_begin"):
            self._wrap_hook(name)
        self._wrap_hook("on_test_batch_begin")  # Ctrl-C does not wait for a long validation
        if compat.backend() == "torch":  # its batch loop is not inside catch_stop_iteration
            self._wrap_hook("on_train_batch_end")
        catch_stop_iteration = self.epoch_iterator.catch_stop_iteration

        @contextlib.contextmanager
        def watched() -> Iterator[None]:
            try:
                with catch_stop_iteration():
                    yield
            except BaseException as error:
                self._fail(error)
                raise

        self._put(self.epoch_iterator, "catch_stop_iteration", watched)

    def _watch_model(self) -> None:
        self._wrap_method(self.model, "evaluate")
        if compat.backend() == "torch":
            self._wrap_method(self.model, "train_function")

    def _wrap_method(self, owner: Any, name: str) -> None:
        inner = getattr(owner, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            if self._hooks_running:  # a callback's own call, whose errors are for it to handle
                return inner(*args, **kwargs)
            try:  # without a generator, which costs as much as the rest, at every batch
                return inner(*args, **kwargs)
            except BaseException as error:
                self._fail(error)
                raise

        self._put(owner, name, watched)

    # ---------------------------------------------------------------- failure

    def _fail(self, error: BaseException) -> None:
        if self._failed is not None:
            return
        self._failed = error
        compat.recover_state_after_failure(self.model)
        weights_decided = bool(self._failure.get("restore"))
        for phase in _PHASES:
            for handler in self._failure.get(phase, []):
                try:
                    handler(error)
                except Exception:
                    _LOGGER.exception("While `fit` was ending with %r, a callback failed", error)
        if weights_decided and not self._ending:  # before which Keras has finalized
            compat.skip_next_finalize(self.model)
        self.close()
        if not isinstance(error, KeyboardInterrupt | SystemExit):
            self._deliver_interrupt()

    # ---------------------------------------------------------------- Ctrl-C

    def _shield_from_interrupts(self) -> None:
        """Keeps Ctrl-C for the next hook.

        Anywhere else the exception may fall between two watched calls, and on JAX between the
        donation of the old state and the storing of the new one, which loses the model. A second
        Ctrl-C does not wait.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        self.sigint_before = signal.getsignal(signal.SIGINT)
        if self.sigint_before in (None, signal.SIG_IGN, signal.SIG_DFL):
            return

        def on_sigint(number: int, frame: FrameType | None) -> None:
            if self._interrupt is not None:
                self.sigint_before(number, frame)
            self._interrupt = (number, frame)

        signal.signal(signal.SIGINT, on_sigint)
        self._undo.append(lambda: _put_back_sigint(on_sigint, self.sigint_before))

    def _deliver_interrupt(self, at_end: bool = True) -> None:
        if self._interrupt is not None and at_end:
            number, frame = self._interrupt
            self._interrupt = None
            self.sigint_before(number, frame)


class _Last:
    """Stands at the end of the list while `on_train_begin` runs through it."""

    def __init__(self, callbacks: list[Any], handler: Callable[..., None]) -> None:
        self._callbacks = callbacks
        self._handler = handler

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._callbacks.remove(self)
        self._handler(logs)


def _put_back_sigint(ours: Any, previous: Any) -> None:
    if (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is ours
    ):
        signal.signal(signal.SIGINT, previous)
