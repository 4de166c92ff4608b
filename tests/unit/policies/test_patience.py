"""When to stop: epoch by epoch, against counts made by hand from Keras's `early_stopping.py`."""

from __future__ import annotations

import json
import math

import pytest

from keras_callbacks_plus.errors import InvalidArgumentError
from keras_callbacks_plus.policies import (
    Duration,
    Monitor,
    Patience,
    PatienceState,
    Progress,
    StopReason,
    Verdict,
)

NAN, INF = math.nan, math.inf
LOSS = Monitor("loss", "min")


def run(rule, values, *, state=None, progress=None):
    """Feeds values until the rule stops; returns the state, the epoch it stopped in, and why."""
    state = PatienceState() if state is None else state
    for epoch, value in enumerate(values):
        now = None if progress is None else progress[epoch]
        state, verdict = rule.update(state, value, at=epoch, progress=now)
        if verdict.stop:
            return state, epoch, verdict.reason
    return state, None, None


@pytest.mark.parametrize(("patience", "stopped"), [(0, 3), (1, 3), (2, 4), (3, 5), (7, None)])
def test_the_epochs_of_keras_own_test(patience, stopped):
    # keras/src/callbacks/early_stopping_test.py, test_early_stopping_patience
    losses = [10.0, 9.0, 8.0, 9.0, 8.9, 8.8, 8.7, 8.6, 8.5]
    state, epoch, _ = run(Patience(LOSS, patience), losses)
    assert (epoch, state.best, state.best_at) == (stopped, 8.0, 2)


def test_never_out_of_patience_in_the_first_epoch():
    assert run(Patience(LOSS, 0), [NAN]) == (PatienceState(wait=1), None, None)
    assert run(Patience(LOSS, 0), [NAN, NAN])[1:] == (1, StopReason.PATIENCE)


def test_an_improvement_by_no_more_than_min_delta_is_none():
    rule = Patience(Monitor("loss", "min", min_delta=0.25), 2)
    state, epoch, _ = run(rule, [1.0, 0.75, 0.5, 0.5, 0.5])
    assert (epoch, state) == (4, PatienceState(best=0.5, best_at=2, wait=2))


def test_values_before_start_from_are_not_compared():
    state, epoch, _ = run(Patience(LOSS, 1, start_from=2), [0.1, 0.1, 0.9, 0.8, 0.85])
    assert (epoch, state) == (4, PatienceState(best=0.8, best_at=3, wait=1))


def test_nan_first_is_not_the_best_for_ever():
    # Keras 3.15 makes the NaN its best, which nothing beats, and stops in epoch 2
    state, epoch, _ = run(Patience(LOSS, 2), [NAN, 0.9, 0.5, 0.4])
    assert (epoch, state) == (None, PatienceState(best=0.4, best_at=3, wait=0))


def test_infinity_counts_as_no_improvement():
    state, epoch, _ = run(Patience(LOSS, 2), [INF, 1.0, INF, NAN])
    assert (epoch, state) == (3, PatienceState(best=1.0, best_at=1, wait=2))


def test_a_metric_that_was_not_logged_changes_nothing():
    before = PatienceState(best=0.5, best_at=1, wait=1)
    assert Patience(LOSS, 1).update(before, None, at=5) == (before, Verdict())


class TestBaseline:
    def test_an_improvement_below_the_baseline_resets_the_count(self):
        # Keras 3.15 stops here in epoch 4, after four improvements and one setback of 0.01
        values = [0.9, 0.8, 0.7, 0.6, 0.61, 0.55]
        state, epoch, _ = run(Patience(LOSS, 3, baseline=0.5), values)
        assert (epoch, state) == (None, PatienceState(best=0.55, best_at=5, wait=0))

    def test_a_metric_that_never_moves_stops_one_value_earlier(self):
        assert run(Patience(LOSS, 3, baseline=0.5), [0.9] * 9)[1] == 2
        assert run(Patience(LOSS, 3), [0.9] * 9)[1] == 3

    def test_a_first_value_better_than_it_resets_the_count(self):
        assert run(Patience(LOSS, 3, baseline=0.5), [0.4] * 9)[1] == 3
        assert run(Patience(LOSS, 3, baseline=0.5), [0.5] * 9)[1] == 2  # equal is not better


class TestThresholds:
    @pytest.mark.parametrize(
        ("mode", "values", "epoch"),
        [("min", [1.0, 0.11, 0.1], 2), ("max", [0.0, 0.09, 0.1], 2), ("min", [-INF], 0)],
    )
    def test_stops_when_good_enough(self, mode, values, epoch):
        rule = Patience(Monitor("m", mode, min_delta=0.5), 9, stopping_threshold=0.1)
        assert run(rule, values)[1:] == (epoch, StopReason.STOPPING_THRESHOLD)

    def test_the_value_that_is_good_enough_is_also_the_best(self):
        rule = Patience(LOSS, 9, stopping_threshold=0.1)
        state, verdict = rule.update(PatienceState(), 0.1, at=0)
        assert verdict == Verdict(True, True, StopReason.STOPPING_THRESHOLD)
        assert state == PatienceState(best=0.1, best_at=0, wait=0)

    @pytest.mark.parametrize(
        ("mode", "values", "epoch"),
        [("min", [1.0, 5.0, 5.1], 2), ("max", [-1.0, -5.0, -5.1], 2), ("min", [INF], 0)],
    )
    def test_stops_when_diverged(self, mode, values, epoch):
        rule = Patience(Monitor("m", mode), 9, divergence_threshold=5.0 if mode == "min" else -5.0)
        assert run(rule, values)[1:] == (epoch, StopReason.DIVERGENCE)

    def test_nan_has_not_diverged(self):
        assert run(Patience(LOSS, 9, divergence_threshold=5.0), [1.0, NAN])[1:] == (None, None)

    def test_the_reason_is_the_threshold_where_patience_runs_out_as_well(self):
        rule = Patience(LOSS, 1, divergence_threshold=5.0)
        assert run(rule, [1.0, 6.0])[1:] == (1, StopReason.DIVERGENCE)

    @pytest.mark.parametrize("mode", ["min", "max"])
    def test_either_order_is_accepted_in_either_mode(self, mode):
        # a callback in mode="auto" checks its arguments before the direction is known
        rule = Patience(Monitor("m", mode), 9, stopping_threshold=0.9, divergence_threshold=0.1)
        reason = {"min": StopReason.DIVERGENCE, "max": None}[mode]
        assert run(rule, [0.5])[2] is reason

    @pytest.mark.parametrize("value", [NAN, INF, -INF])
    @pytest.mark.parametrize("start_from", [0, 10])
    def test_check_finite_stops_at_once_and_keeps_the_best(self, value, start_from):
        rule = Patience(LOSS, 9, start_from=start_from, check_finite=True)
        before = PatienceState(best=0.5, best_at=1, wait=1)
        expected = (before, Verdict(False, True, StopReason.NOT_FINITE))
        assert rule.update(before, value, at=2) == expected


class TestDuration:
    def test_batches_count_from_the_last_improvement(self):
        rule = Patience(LOSS, Duration(100, "batches"))
        progress = [Progress(batches=n) for n in (40, 80, 120, 160, 200)]
        state, epoch, reason = run(rule, [0.9, 0.5, 0.6, 0.6, 0.6], progress=progress)
        assert (epoch, reason, state.since) == (4, StopReason.PATIENCE, Progress(batches=80))
        assert state.wait == 3

    def test_seconds_are_passed_in(self):
        rule = Patience(LOSS, Duration.parse("30 min"))
        progress = [Progress(seconds=5000.0 + 600.0 * n) for n in range(6)]
        assert run(rule, [0.5, 0.6, 0.4, 0.5, 0.5, 0.5], progress=progress)[1] == 5

    def test_without_a_start_the_count_begins_at_the_first_value(self):
        rule = Patience(LOSS, Duration(2, "epochs"))
        progress = [Progress(epochs=n) for n in (10, 11, 12)]
        assert run(rule, [NAN, NAN, NAN], progress=progress)[1] == 2
        begun = PatienceState(since=Progress(epochs=9))
        assert run(rule, [NAN, NAN, NAN], state=begun, progress=progress)[1] == 1

    def test_the_epochs_before_start_from_do_not_count(self):
        rule = Patience(LOSS, Duration(2, "epochs"), start_from=3)
        progress = [Progress(epochs=n + 1) for n in range(6)]
        begun = PatienceState(since=Progress())
        assert run(rule, [NAN] * 6, state=begun, progress=progress)[1] == 4

    def test_progress_is_needed(self):
        rule = Patience(LOSS, Duration(2, "epochs"))
        with pytest.raises(InvalidArgumentError, match="Pass a `Progress`"):
            rule.update(PatienceState(), 0.5, at=0)


@pytest.mark.parametrize(
    "state",
    [
        PatienceState(),
        PatienceState(best=0.1, best_at=3, wait=2),
        PatienceState(best=-INF, best_at=0, wait=1),
        PatienceState(best=0.0, best_at=0, wait=0, since=Progress(3, 600, 12.5)),
    ],
)
def test_state_survives_strict_json(state):
    text = json.dumps(state.to_json(), allow_nan=False)
    assert PatienceState.from_json(json.loads(text)) == state


def test_state_of_a_version_without_since_is_read():
    old = {"best": 0.5, "best_at": 2, "wait": 1}
    assert PatienceState.from_json(old) == PatienceState(best=0.5, best_at=2, wait=1)


def test_each_reason_is_a_sentence():
    assert {reason.name for reason in StopReason} == {
        "PATIENCE",
        "STOPPING_THRESHOLD",
        "DIVERGENCE",
        "NOT_FINITE",
    }
    assert all(r.value[0].isupper() and r.value.endswith(".") for r in StopReason)


@pytest.mark.parametrize(
    ("arguments", "argument", "fix"),
    [
        ({"patience": -1}, "patience", "Write 3 for three epochs"),
        ({"patience": True}, "patience", "Write 3 for three epochs"),
        ({"patience": 2.0}, "patience", "Write 3 for three epochs"),
        ({"patience": "30 min"}, "patience", 'policies.Duration.parse("30 min")'),
        ({"start_from": -1}, "start_from_epoch", "Write 0 for the first epoch."),
        ({"baseline": NAN}, "baseline", "Leave out `baseline` for none."),
        ({"stopping_threshold": "0.1"}, "stopping_threshold", "Leave out `stopping_threshold`"),
        ({"divergence_threshold": INF}, "divergence_threshold", "Leave out `divergence_thresh"),
        ({"check_finite": 1}, "check_finite", "Write True, without quotes."),
    ],
)
def test_bad_arguments(arguments, argument, fix):
    with pytest.raises(InvalidArgumentError) as caught:
        Patience(LOSS, **{"patience": 3, **arguments})
    assert caught.value.argument == argument
    assert fix in caught.value.fix
