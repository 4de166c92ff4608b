"""What comes in: `save_best_only`, `initial_value_threshold` and `min_delta` before a policy."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_callbacks_plus.policies import (
    BestN,
    Decision,
    EveryN,
    KeepAll,
    LatestN,
    MaxBytes,
    Monitor,
    Selection,
    best_value,
    monitors_of,
    most_kept,
    needs_monitor,
)

LOSS = Monitor("loss", "min")


def record(sequence, value):
    metrics = {} if value is None else {"loss": value}
    return SimpleNamespace(
        path=f"{sequence}", sequence=sequence, epoch=sequence, batch=None, metrics=metrics, size=4
    )


def play(selection, values):
    """The values that are on the disk after each was offered in turn."""
    disk = []
    for sequence, value in enumerate(values):
        new = record(sequence, value)
        decisions = selection.judge(disk, new)
        if decisions[-1].keep:
            disk = [r for r, d in zip([*disk, new], decisions, strict=True) if d.keep]
    return [r.metrics.get("loss") for r in disk]


SLOPE = [0.9, 0.5, 0.45, 0.44, 0.4, 0.1]


@pytest.mark.parametrize(
    ("policy", "min_delta", "kept"),
    [
        (KeepAll(), 0.0, SLOPE),
        (KeepAll(), 0.2, [0.9, 0.5, 0.1]),
        (LatestN(1), 0.2, [0.1]),
        (LatestN(2), 0.0, [0.4, 0.1]),
        (EveryN(2), 0.0, [0.5, 0.44, 0.1]),
        (BestN(1), 0.2, [0.1]),
        (BestN(2), 0.2, [0.45, 0.1]),
        (BestN(2), 0.0, [0.4, 0.1]),
        (MaxBytes(8), 0.0, [0.4, 0.1]),
    ],
)
def test_best_only(policy, min_delta, kept):
    monitor = Monitor("loss", "min", min_delta)
    assert play(Selection(policy.bind(monitor), monitor), SLOPE) == kept


def test_without_a_monitor_the_policy_alone_decides():
    assert play(Selection(LatestN(2)), [0.1, None, math.nan]) == [
        None,
        pytest.approx(math.nan, nan_ok=True),
    ]
    assert play(Selection(BestN(1, LOSS)), [0.5, 0.9, 0.1]) == [0.1]


def test_what_is_not_ranked_or_not_better_than_the_threshold_stays_out():
    selection = Selection(LatestN(9), LOSS, 0.45)
    assert play(selection, [0.9, 0.4, None, math.nan, math.inf, 0.3]) == [0.4, 0.3]
    keeps = Selection(BestN(9, LOSS) | LatestN(1), LOSS, 0.45)
    assert play(keeps, [0.9, 0.4, None, math.nan, 0.5, 0.3]) == [0.4, 0.3]


@pytest.mark.parametrize(
    ("selection", "value", "reason"),
    [
        (Selection(KeepAll(), LOSS), 0.6, "loss did not improve from 0.50000"),
        (Selection(KeepAll(), LOSS), None, "loss is missing, which is never the best"),
        (Selection(KeepAll(), LOSS), math.nan, "loss is nan, which is never the best"),
        (Selection(BestN(1, LOSS), LOSS, 0.3), 0.4, "loss did not improve from 0.30000"),
        (Selection(BestN(1, LOSS), LOSS), 0.6, "evicted: 2nd best by loss (0.6)"),
        (
            Selection(BestN(1, LOSS), Monitor("loss", "min", 0.2)),
            0.4,
            "loss (0.40000) is not better by 0.2 than the 0.50000 of 0",
        ),
    ],
)
def test_the_reason_is_said(selection, value, reason):
    assert selection.judge([record(0, 0.5)], record(1, value))[-1] == Decision("1", False, reason)


@given(
    st.lists(st.sampled_from([0.1, 0.2, 0.25, 0.3, 0.5, 0.9, math.nan])),
    st.sampled_from([0.0, 0.1, 0.3]),
    st.integers(1, 3),
    st.sampled_from(["min", "max"]),
)
def test_the_best_that_is_kept_is_within_min_delta_of_the_best_seen(values, min_delta, n, mode):
    monitor = Monitor("loss", mode, min_delta)
    ranked = [v for v in values if v == v]
    for policy in (KeepAll(), LatestN(n), BestN(n, monitor)):
        disk = play(Selection(policy, monitor), values)
        best = best_value(monitor, [record(i, v) for i, v in enumerate(disk)])
        seen = best_value(monitor, [record(i, v) for i, v in enumerate(values)])
        assert (best is None) == (not ranked)
        assert not monitor.is_better(seen, best)
        assert min_delta > 0 or best == seen


def test_which_policies_rank():
    assert needs_monitor(BestN(1) | LatestN(1))
    assert needs_monitor(LatestN(3) & MaxBytes(9))
    for policy in (
        LatestN(1),
        EveryN(2),
        KeepAll(),
        MaxBytes(9, "oldest"),
        BestN(1, LOSS),
        object(),
    ):
        assert not needs_monitor(policy)
    assert monitors_of((BestN(1) | LatestN(1)).bind(LOSS)) == (LOSS,)


@pytest.mark.parametrize(
    ("policy", "most"),
    [
        (BestN(3), 3),
        (LatestN(2) | BestN(1), 3),
        (LatestN(10) & BestN(3), 3),
        (EveryN(2), math.inf),
        (LatestN(2) & MaxBytes(9), 2),
    ],
)
def test_how_many_are_kept_at_most(policy, most):
    assert most_kept(policy) == most
    assert math.isnan(most_kept(object()))
