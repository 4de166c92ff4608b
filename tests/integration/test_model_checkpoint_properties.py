"""For any scores and any restarts, the files on the disk are what the arguments say."""

from __future__ import annotations

import math
import os
import tempfile

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_callbacks_plus as kcp
from keras_callbacks_plus.storage import CheckpointStore

pytestmark = pytest.mark.backend

# few values, so that ties are common
SCORES = st.sampled_from([0.1, 0.2, 0.3, 0.30000000001, math.nan, math.inf, -math.inf])
# each inner list is a process: its scores, epoch by epoch
RUNS = st.lists(st.lists(SCORES, max_size=5), min_size=1, max_size=4)


def model():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


MODEL = model()


def play(runs, folder, name="{epoch}.weights.h5", **arguments):
    """The runs one after the other, each by a callback of its own; returns the last one."""
    epoch = 0
    for scores in runs:
        checkpoint = kcp.ModelCheckpoint(
            os.path.join(folder, name), save_weights_only=True, **arguments
        )
        checkpoint.set_params({})
        checkpoint.set_model(MODEL)
        checkpoint.on_train_begin()
        for score in scores:
            MODEL.layers[0].bias.assign(np.full(1, float(epoch)))
            checkpoint.on_epoch_begin(epoch)
            checkpoint.on_epoch_end(epoch, {"val_loss": score})
            epoch += 1
        checkpoint.on_train_end()
    return checkpoint


def on_disk(folder):
    """Epochs (counted from 0) whose file is there; checks that each holds its epoch's weights."""
    found = set()
    records = CheckpointStore(folder).records()
    names = {f for f in os.listdir(folder) if f.endswith(".h5")}
    assert names == {r.path for r in records}
    for record in records:
        CheckpointStore(folder).verify(record)
        MODEL.load_weights(os.path.join(folder, record.path))
        assert float(np.array(MODEL.layers[0].bias)[0]) == record.epoch
        found.add(record.epoch)
    return found


@settings(max_examples=40)
@given(RUNS, st.integers(1, 3), st.sampled_from(["min", "max"]), st.booleans())
def test_the_k_best_of_all_processes(runs, k, mode, background):
    scores = [score for run in runs for score in run]
    sign = 1 if mode == "min" else -1
    ranked = [(sign * s, e) for e, s in enumerate(scores) if not math.isnan(s)]
    expected = [(s, e) for s, e in sorted(ranked) if s != math.inf][:k]  # of equal ones, the first
    with tempfile.TemporaryDirectory() as folder:
        last = play(
            runs,
            folder,
            mode=mode,
            save_best_only=True,
            max_to_keep=k,
            save_on_background=background,
        )
        assert on_disk(folder) == {e for _, e in expected}
    assert last.best == (sign * expected[0][0] if expected else None)


@settings(max_examples=20)
@given(RUNS, st.integers(1, 3))
def test_the_k_latest_of_all_processes(runs, k):
    count = sum(map(len, runs))
    with tempfile.TemporaryDirectory() as folder:
        play(runs, folder, max_to_keep=k)
        assert on_disk(folder) == set(range(count)[-k:])


@settings(max_examples=20)
@given(RUNS, st.integers(1, 2), st.integers(1, 2))
def test_best_and_latest_are_kept_independently(runs, best, latest):
    scores = [score for run in runs for score in run]
    ranked = sorted((s, e) for e, s in enumerate(scores) if not math.isnan(s) and s != math.inf)
    keep = kcp.policies.BestN(best) | kcp.policies.LatestN(latest)
    with tempfile.TemporaryDirectory() as folder:
        play(runs, folder, keep=keep)
        expected = {e for _, e in ranked[:best]} | set(range(len(scores))[-latest:])
        assert on_disk(folder) == expected


@settings(max_examples=30)
@given(RUNS, st.sampled_from([0.0, 0.1]), st.sampled_from([None, 0.25]), st.booleans())
def test_each_one_that_is_better_than_all_before(runs, min_delta, threshold, is_fixed):
    """With a name for each epoch all of them stay, and under one name the last of them."""
    scores = [score for run in runs for score in run]
    expected, best = [], math.inf if threshold is None else threshold
    for epoch, score in enumerate(scores):
        if score + min_delta < best:  # a NaN never is
            expected.append(epoch)
            best = score
    with tempfile.TemporaryDirectory() as folder:
        last = play(
            runs,
            folder,
            name="best.weights.h5" if is_fixed else "{epoch}.weights.h5",
            save_best_only=True,
            min_delta=min_delta,
            initial_value_threshold=threshold,
        )
        assert on_disk(folder) == set(expected[-1:] if is_fixed else expected)
    assert last.best == (best if expected else threshold)


@settings(max_examples=20)
@given(RUNS, st.integers(1, 4))
def test_every_nth_and_the_best_are_kept_independently(runs, n):
    scores = [score for run in runs for score in run]
    ranked = sorted((s, e) for e, s in enumerate(scores) if not math.isnan(s) and s != math.inf)
    with tempfile.TemporaryDirectory() as folder:
        play(runs, folder, keep=kcp.policies.EveryN(n, "epochs") | kcp.policies.BestN(1))
        multiples = {e for e in range(len(scores)) if (e + 1) % n == 0}
        assert on_disk(folder) == multiples | {e for _, e in ranked[:1]}
