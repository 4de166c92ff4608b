"""`Patience` against `keras.callbacks.EarlyStopping`, written down again value by value."""

from __future__ import annotations

import json
import math

from hypothesis import given, settings
from hypothesis import strategies as st

from keras_callbacks_plus.policies import Monitor, Patience, PatienceState

# derandomize: the same cases in every run; no deadline: a shared machine may pause
FIXED = settings(derandomize=True, deadline=None, max_examples=200)

# quarters: sums with min_delta are exact, ties are frequent, and float32 (Keras) says the same
quarters = st.integers(-12, 12).map(lambda n: n / 4)
deltas = st.sampled_from([0.0, 0.25, 0.5, 1.0])
modes = st.sampled_from(["min", "max"])
sequences = st.lists(st.one_of(quarters, quarters, quarters, st.none()), max_size=25)


class KerasEarlyStopping:
    """The rule of Keras 3.15's `early_stopping.py` and `monitor_callback.py`."""

    def __init__(self, mode, min_delta, patience, baseline, start_from_epoch):
        self.less = mode == "min"
        self.min_delta = -min_delta if self.less else min_delta
        self.patience = patience
        self.baseline = baseline
        self.start_from_epoch = start_from_epoch
        self.best, self.best_epoch, self.wait = None, None, 0

    def is_improvement(self, value, reference):
        if reference is None:
            return True
        shifted = value - self.min_delta
        return shifted < reference if self.less else shifted > reference

    def stops(self, epoch, current):
        if current is None or epoch < self.start_from_epoch:
            return False
        self.wait += 1
        if self.is_improvement(current, self.best):
            self.best, self.best_epoch = current, epoch
            if self.baseline is None or self.is_improvement(current, self.baseline):
                self.wait = 0
            return False
        return self.wait >= self.patience and epoch > 0


@FIXED
@given(modes, deltas, st.integers(0, 6), st.integers(0, 4), st.integers(0, 3), sequences)
def test_epoch_by_epoch_as_keras(mode, min_delta, patience, start_from, first_epoch, values):
    rule = Patience(Monitor("m", mode, min_delta), patience, start_from=start_from)
    keras = KerasEarlyStopping(mode, min_delta, patience, None, start_from)
    state = PatienceState()
    for epoch, value in enumerate(values, start=first_epoch):
        state, verdict = rule.update(state, value, at=epoch)
        assert verdict.stop == keras.stops(epoch, value)
        assert verdict.improved == (keras.best_epoch == epoch)
        assert (state.best, state.best_at, state.wait) == (keras.best, keras.best_epoch, keras.wait)
        if verdict.stop:
            break


@FIXED
@given(modes, deltas, st.integers(0, 6), quarters, sequences)
def test_with_a_baseline_never_earlier_than_keras_and_the_same_best(
    mode, min_delta, patience, baseline, values
):
    rule = Patience(Monitor("m", mode, min_delta), patience, baseline=baseline)
    keras = KerasEarlyStopping(mode, min_delta, patience, baseline, 0)
    state, stopped_before = PatienceState(), False
    for epoch, value in enumerate(values):
        state, verdict = rule.update(state, value, at=epoch)
        stopped_before = keras.stops(epoch, value) or stopped_before
        assert (state.best, state.best_at) == (keras.best, keras.best_epoch)
        assert state.wait <= keras.wait
        if verdict.stop:
            assert stopped_before
            break


@FIXED
@given(
    modes,
    deltas,
    st.integers(0, 6),
    st.lists(st.one_of(quarters, st.floats(), st.none()), max_size=25),
    st.integers(0, 25),
)
def test_any_values_and_a_restart_anywhere(mode, min_delta, patience, values, restart):
    """The best is a ranked value that was seen; state through JSON changes nothing that follows."""
    monitor = Monitor("m", mode, min_delta)
    rule = Patience(monitor, patience)
    state = again = PatienceState()
    for epoch, value in enumerate(values):
        if epoch == restart:
            text = json.dumps(again.to_json(), allow_nan=False)
            again = PatienceState.from_json(json.loads(text))
        state, verdict = rule.update(state, value, at=epoch)
        again, verdict_again = rule.update(again, value, at=epoch)
        assert (state, verdict) == (again, verdict_again)
        assert state.wait <= epoch + 1
        assert state.best is None or (monitor.is_ranked(state.best) and state.best in values)
        assert verdict.stop == (verdict.reason is not None)
        assert not (verdict.stop and verdict.improved)
    ranked = [value for value in values if monitor.is_ranked(value)]
    assert (state.best is None) == (not ranked)
    if ranked and min_delta == 0.0:
        assert state.best == (min(ranked) if mode == "min" else max(ranked))
    assert state.best is None or not math.isnan(state.best)
