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
    found = []
    for one in wanted:
        try:
            number = signal.Signals[one] if isinstance(one, str) else signal.Signals(one)
        except (KeyError, ValueError, TypeError):
            number = None
        if number is None or number.name in ("SIGKILL", "SIGSTOP") or isinstance(one, bool):
            raise InvalidArgumentError(
                "save_before_preemption",
                save_before_preemption,
                "True, False or signals that can be caught",
                'Write True for SIGTERM, or ["SIGTERM", "SIGUSR1"] for both.',
            )
        found.append(number)
    return tuple(dict.fromkeys(found))


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
        self._caught: tuple[int, FrameType | None] | None = None
        self._previous: dict[int, Any] = {}

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
            self._previous[number] = signal.getsignal(number)
            signal.signal(number, self._on_signal)
        scope.at_close(self.release)

    def release(self) -> None:
        """Puts the previous handlers back, unless somebody has replaced ours."""
        for number, previous in self._previous.items():
            if signal.getsignal(number) == self._on_signal:
                signal.signal(number, signal.SIG_DFL if previous is None else previous)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if (
            self._caught is not None
            and number == signal.SIGINT
            and callable(self._previous[number])
        ):
            self._previous[number](number, frame)  # a second Ctrl-C does not wait
            return
        self._caught = (number, frame)

    def reason(self) -> str | None:
        """Why to leave now, as a phrase; `None` if there is no reason to."""
        if self._caught is not None:
            return f"caught {signal.Signals(self._caught[0]).name}"
        if self._deadline is not None and self._clock() >= self._deadline:
            return "max_time is used up"
        return None

    def leave(self) -> None:
        """Calls the handler that was there before, and raises `SystemExit(75)` if it returns."""
        if self._caught is not None:
            number, frame = self._caught
            previous = self._previous[number]
            if previous is signal.SIG_IGN:
                self._caught = None
                return
            if callable(previous):
                previous(number, frame)
                if number == signal.SIGINT:  # the running `fit` raises KeyboardInterrupt itself
                    return
        raise SystemExit(EXIT_STATUS)
