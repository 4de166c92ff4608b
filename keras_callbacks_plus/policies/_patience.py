"""When to stop: (state, value) -> (state, verdict)."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from keras_callbacks_plus.errors import InvalidArgumentError
from keras_callbacks_plus.policies._checks import check_integer, check_number
from keras_callbacks_plus.policies._duration import Duration, Progress
from keras_callbacks_plus.policies._monitor import Monitor

__all__ = ["Patience", "PatienceState", "StopReason", "Verdict"]


class StopReason(enum.Enum):
    """Why training was stopped; the value is a sentence."""

    PATIENCE = "The metric has not improved for as long as `patience` allows."
    STOPPING_THRESHOLD = "The metric has reached `stopping_threshold`."
    DIVERGENCE = "The metric is worse than `divergence_threshold`."
    NOT_FINITE = "The metric is NaN or infinite."


@dataclass(frozen=True)
class PatienceState:
    """What has to be remembered between two values.

    Args:
        best: Float, the best value so far, or `None`.
        best_at: Integer, when it was seen (the epoch, counted from 0), or `None`.
        wait: Integer, how many values there have been since the last one that reset the count.
        since: `Progress` when the count was last reset, for a patience that is a `Duration`. A
            state that outlives the process needs `seconds` that do too: of training so far, not
            of a clock that starts anew.
    """

    best: float | None = None
    best_at: int | None = None
    wait: int = 0
    since: Progress | None = None

    def to_json(self) -> dict[str, Any]:
        """The state in JSON's own types; an infinite `best` becomes the string `"-inf"`."""
        best = self.best
        if best is not None and not math.isfinite(best):
            return {**asdict(self), "best": str(best)}
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> PatienceState:
        """Reads what `to_json` returned.

        Args:
            content: What `to_json` returned, by this or an earlier version.
        """
        best, since = content["best"], content.get("since")
        return cls(
            best=None if best is None else float(best),
            best_at=content["best_at"],
            wait=content["wait"],
            since=None if since is None else Progress(**since),
        )


@dataclass(frozen=True)
class Verdict:
    """What a value means.

    Args:
        improved: Whether it is the best so far.
        stop: Whether training should stop.
        reason: Why it should, or `None`.
    """

    improved: bool = False
    stop: bool = False
    reason: StopReason | None = None


@dataclass(frozen=True)
class Patience:
    """Stops when a metric has not improved for a while, as Keras's `EarlyStopping` does.

    On finite values and without a `baseline` it decides as Keras 3.15 does, epoch by epoch. Two
    rules differ on purpose: NaN, and infinity on the wrong side, never become the best; and any
    improvement resets the count, also while the metric is still worse than the `baseline`
    (https://github.com/keras-team/keras/pull/23559).

    Args:
        monitor: `Monitor`, the comparison.
        patience: Integer, so many values without an improvement (0 and 1 both stop at the first
            one); or a `Duration`, so much training since the last improvement.
        baseline: Float or `None`. A first value that is not better than this does not reset the
            count, so that a metric that never moves stops one value earlier. Defaults to `None`.
        start_from: Integer; values of earlier epochs are not compared. Defaults to `0`.
        stopping_threshold: Float or `None`; stop as soon as a value is at least this good.
        divergence_threshold: Float or `None`; stop as soon as a value is worse than this.
        check_finite: Boolean; stop as soon as a value is NaN or infinite, also before
            `start_from`. Defaults to `False`.

    Raises:
        InvalidArgumentError: If an argument is not acceptable.

    Example:

    >>> from keras_callbacks_plus import policies
    >>> rule = policies.Patience(policies.Monitor("loss", "min"), patience=2)
    >>> state = policies.PatienceState()
    >>> for epoch, loss in enumerate([1.0, 0.5, 0.7, 0.6]):
    ...     state, verdict = rule.update(state, loss, at=epoch)
    >>> state.best, state.best_at, verdict.stop, verdict.reason.name
    (0.5, 1, True, 'PATIENCE')
    """

    monitor: Monitor
    patience: int | Duration
    baseline: float | None = None
    start_from: int = 0
    stopping_threshold: float | None = None
    divergence_threshold: float | None = None
    check_finite: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.patience, Duration):
            fix = 'Write 3 for three epochs, or policies.Duration.parse("30 min").'
            check_integer("patience", self.patience, minimum=0, fix=fix)
        check_integer(
            "start_from_epoch", self.start_from, minimum=0, fix="Write 0 for the first epoch."
        )
        for name in ("baseline", "stopping_threshold", "divergence_threshold"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), fix=f"Leave out `{name}` for none.")
        if not isinstance(self.check_finite, bool):
            raise InvalidArgumentError(
                "check_finite", self.check_finite, "True or False", "Write True, without quotes."
            )

    def update(
        self,
        state: PatienceState,
        value: float | None,
        *,
        at: int,
        progress: Progress | None = None,
    ) -> tuple[PatienceState, Verdict]:
        """Takes the next value.

        Args:
            state: What the last call returned; to begin with, `PatienceState()`, or
                `PatienceState(since=progress)` to count a `Duration` from before the first value.
            value: The metric; `None`, where it was not logged, changes nothing.
            at: When it was seen: the epoch, counted from 0. Patience never runs out in epoch 0.
            progress: How far the run is; needed where `patience` is a `Duration`.

        Returns:
            The new state, and what the value means.

        Raises:
            InvalidArgumentError: If `patience` is a `Duration` and there is no `progress`.
        """
        if isinstance(self.patience, Duration) and progress is None:
            raise InvalidArgumentError(
                "progress", None, f"how far the run is, for {self.patience}", "Pass a `Progress`."
            )
        if value is None:
            return state, Verdict()
        if self.check_finite and not math.isfinite(value):
            return state, Verdict(stop=True, reason=StopReason.NOT_FINITE)
        if at < self.start_from:
            return replace(state, since=progress), Verdict()
        improved = self.monitor.is_better(value, state.best)
        resets = improved and (state.best is not None or self._beats_baseline(value))
        state = PatienceState(
            best=float(value) if improved else state.best,
            best_at=at if improved else state.best_at,
            wait=0 if resets else state.wait + 1,
            since=progress if resets or state.since is None else state.since,
        )
        reason = self._crossed_threshold(value)
        if reason is None and not improved and at > 0 and self._has_run_out(state, progress):
            reason = StopReason.PATIENCE
        return state, Verdict(improved, reason is not None, reason)

    def _beats_baseline(self, value: float) -> bool:
        # With no best yet, the baseline is all that a first value can be an improvement on.
        return self.baseline is None or self.monitor.is_better(value, self.baseline)

    def _crossed_threshold(self, value: float) -> StopReason | None:
        if (
            self.divergence_threshold is not None
            and not math.isnan(value)  # NaN is for `check_finite`
            and not self.monitor.reaches(value, self.divergence_threshold)
        ):
            return StopReason.DIVERGENCE
        if self.stopping_threshold is not None and self.monitor.reaches(
            value, self.stopping_threshold
        ):
            return StopReason.STOPPING_THRESHOLD
        return None

    def _has_run_out(self, state: PatienceState, progress: Progress | None) -> bool:
        if not isinstance(self.patience, Duration):
            return state.wait >= self.patience
        assert state.since is not None  # `update` sets it, and refuses a missing `progress`
        assert progress is not None
        return self.patience.is_over(state.since, progress)
