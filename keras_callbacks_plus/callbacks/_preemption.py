"""Leaving `fit` in time: a signal of the scheduler, or a budget of time that is used up."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

from keras_callbacks_plus._keras.fit_scope import FitScope
from keras_callbacks_plus.errors import FitScopeError, InvalidArgumentError

__all__ = ["EXIT_STATUS", "Preemption", "check_signals"]

EXIT_STATUS = 75
"""`EX_TEMPFAIL` of sysexits.h: it failed for now, try it again."""


def check_signals(save_before_preemption: Any) -> tuple[signal.Signals, ...]:
    """The signals that an argument names.

    Args:
        save_before_preemption: `True` for `SIGTERM`, `False` for none, or signals: names such as
            `"SIGUSR1"`, numbers, or members of `signal.Signals`.

    Raises:
        InvalidArgumentError: If one is not a signal of this system, or cannot be caught.
    """
    if isinstance(save_before_preemption, bool):
        return (signal.SIGTERM,) if save_before_preemption else ()
    wanted = save_before_preemption
    if isinstance(wanted, str | int) or not isinstance(wanted, Iterable):
        wanted = [wanted]
    found = [_signal(one) for one in wanted]
    caught = tuple(dict.fromkeys(number for number in found if number is not None))
    if not caught or None in found:
        raise InvalidArgumentError(
            "save_before_preemption",
            save_before_preemption,
            "True, False or signals that ask a process to end",
            'Write True for SIGTERM, ["SIGTERM", "SIGUSR1"] for both, or False for none.',
        )
    return caught


# What cannot be caught; and what says that the program itself has failed, where going on to the
# end of the batch would be going on with what has failed.
_NOT_ASKING = frozenset(
    {"SIGKILL", "SIGSTOP", "SIGSEGV", "SIGFPE", "SIGILL", "SIGBUS", "SIGABRT", "SIGTRAP", "SIGSYS"}
)


def _signal(one: Any) -> signal.Signals | None:
    """A signal that can be asked for, or `None`."""
    if isinstance(one, bool) or not isinstance(one, str | int):
        return None
    try:
        number = signal.Signals[one] if isinstance(one, str) else signal.Signals(one)
    except (KeyError, ValueError):
        return None
    return None if number.name in _NOT_ASKING else number


class Preemption:
    """Whether it is time to leave, and the leaving.

    Args:
        signals: The signals to wait for.
        deadline: When to leave without one, on `clock`; `None` for never.
        clock: Returns seconds, and never goes back.
    """

    def __init__(
        self,
        signals: tuple[signal.Signals, ...],
        deadline: float | None,
        clock: Callable[[], float],
    ) -> None:
        self._signals = signals
        self._deadline = deadline
        self._clock = clock
        self._caught: dict[int, FrameType | None] = {}
        self._previous: dict[int, Any] = {}
        self._leaving = False
        self._interrupt_now: Any = signal.default_int_handler

    @property
    def wanted(self) -> bool:
        """Whether there is anything to wait for."""
        return bool(self._signals) or self._deadline is not None

    def catch(self, scope: FitScope) -> None:
        """Catches the signals until the running `fit` ends.

        Args:
            scope: The running `fit`.

        Raises:
            FitScopeError: Outside of the main thread, where Python catches none.
        """
        if not self._signals:
            return
        if threading.current_thread() is not threading.main_thread():
            raise FitScopeError(
                "save_before_preemption needs `fit` to run in the main thread: Python delivers "
                "signals to no other. Call `fit` there, or leave the argument out and use "
                "`max_time`."
            )
        for number in self._signals:
            previous = signal.getsignal(number)
            if previous is not signal.SIG_IGN:  # somebody wants it ignored: so it is
                self._previous[number] = previous
                signal.signal(number, self._on_signal)
        self._interrupt_now = scope.sigint_before
        scope.at_close(self.release)
        scope.after_close(self._deliver_late)

    def release(self) -> None:
        """Puts the previous handlers back, unless somebody has replaced ours."""
        for number, previous in self._previous.items():
            if signal.getsignal(number) == self._on_signal:
                signal.signal(number, signal.SIG_DFL if previous is None else previous)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and number in self._caught and callable(self._previous[number]):
            self._interrupt_now(number, frame)  # a second Ctrl-C does not wait
            return
        self._caught[number] = frame

    def signals(self) -> str | None:
        """The signals that wait to be answered, as a phrase; `None` if there is none."""
        names = [signal.Signals(number).name for number in self._caught]
        return f"caught {' and '.join(names)}" if names else None

    def reason(self) -> str | None:
        """Why to leave now, as a phrase; `None` if there is no reason to."""
        if self._caught:
            return self.signals()
        if self._deadline is not None and self._clock() >= self._deadline:
            return "max_time is used up"
        return None

    def leave(self) -> None:
        """Calls the handlers that were there before, and raises `SystemExit(75)` if they return.

        Where one raises, those of the other signals are called when `fit` ends.
        """
        keyboard_only = list(self._caught) == [signal.SIGINT] and callable(
            self._previous[signal.SIGINT]
        )
        self._leaving = True
        self._deliver()
        if not keyboard_only:  # else the running `fit` raises KeyboardInterrupt itself
            raise SystemExit(EXIT_STATUS)

    def forgo(self) -> None:
        """Has `fit` end by the error that is on its way, and not by the status that asks for more.

        The handlers that were there before are still called when it ends.
        """
        self._leaving = True

    def _deliver(self) -> None:
        while self._caught:
            number, frame = self._caught.popitem()
            if callable(self._previous[number]):
                self._previous[number](number, frame)

    def _deliver_late(self) -> None:
        """What came too late for the last boundary, or in a batch that failed."""
        if self._leaving:
            self._deliver()  # a handler has raised before the turn of the others came
        elif self._caught:
            self.leave()
