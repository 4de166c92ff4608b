"""`EarlyStopping` in a real `fit`: the best weights, however it ends."""

from __future__ import annotations

import copy
import pickle

import keras
import numpy as np
import pytest

import keras_callbacks_plus as kcp
from keras_callbacks_plus.errors import (
    InvalidArgumentError,
    MissingMetricWarning,
    UnsupportedKerasError,
)

pytestmark = pytest.mark.backend


class Boom(Exception):
    """The tests' own failure."""


class Script(keras.callbacks.Callback):
    """Writes prescribed values into the logs, keeps each epoch's weights, and may raise."""

    def __init__(self, values, fail_at=None, error=Boom):
        super().__init__()
        self.values, self.fail_at, self.error, self.weights = values, fail_at, error, []

    def on_epoch_end(self, epoch, logs=None):
        logs["val_loss"] = self.values[epoch]
        self.weights.append([np.array(w) for w in self.model.get_weights()])

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.fail_at:
            raise self.error


def train(script, *callbacks, optimizer="sgd"):
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(1)])
    model.compile(optimizer, "mse")
    x = np.random.default_rng(0).random((16, 4)).astype("float32")
    y = x.sum(1, keepdims=True)
    epochs = len(script.values)
    model.fit(x, y, batch_size=8, epochs=epochs, verbose=0, callbacks=[script, *callbacks])
    return model


def assert_weights(model, expected):
    for got, want in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(got, want)


def test_stops_and_restores_the_best():
    script = Script([1.0, 0.5, 0.7, 0.6, 0.8, 0.1])
    stop = kcp.EarlyStopping(patience=3, restore_best_weights=True)
    model = train(script, stop)
    assert (stop.best, stop.best_epoch, stop.stopped_epoch, stop.wait) == (0.5, 1, 4, 3)
    assert stop.stop_reason is kcp.policies.StopReason.PATIENCE
    assert_weights(model, script.weights[1])


def test_restores_the_best_at_the_last_epoch():
    script = Script([1.0, 0.5, 0.7])
    stop = kcp.EarlyStopping(patience=10, restore_best_weights=True)
    assert_weights(train(script, stop), script.weights[1])
    assert stop.stop_reason is None
    assert stop.stopped_epoch == 0


@pytest.mark.parametrize("error", [Boom, KeyboardInterrupt])
def test_restores_the_best_when_fit_fails(error):
    script = Script([1.0, 0.5, 0.7, 0.6], fail_at=3, error=error)
    stop = kcp.EarlyStopping(patience=10, restore_best_weights=True)
    models = []
    keep = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: models.append(keep.model))
    with pytest.raises(error):
        train(script, stop, keep)
    assert_weights(models[0], script.weights[1])


def test_nan_is_never_the_best():
    script = Script([float("nan"), 0.9, float("nan"), 0.4, 0.5])
    stop = kcp.EarlyStopping(patience=3, restore_best_weights=True)
    model = train(script, stop)
    assert (stop.best, stop.best_epoch) == (0.4, 3)
    assert_weights(model, script.weights[3])


@pytest.mark.parametrize(
    ("arguments", "values", "reason", "epoch"),
    [
        ({"stopping_threshold": 0.3}, [1.0, 0.3, 0.2], "STOPPING_THRESHOLD", 1),
        ({"divergence_threshold": 5.0}, [1.0, 2.0, 6.0, 1.0], "DIVERGENCE", 2),
        ({"check_finite": True}, [1.0, float("nan"), 0.5], "NOT_FINITE", 1),
    ],
)
def test_other_reasons_to_stop(arguments, values, reason, epoch):
    stop = kcp.EarlyStopping(patience=10, **arguments)
    train(Script(values), stop)
    assert (stop.stop_reason.name, stop.stopped_epoch) == (reason, epoch)


def test_with_a_moving_average_weights_and_averages_are_those_of_the_best_epoch():
    averages = []

    class Averages(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            optimizer = self.model.optimizer
            averages.append([np.array(v.value) for v in optimizer.variables if "average" in v.path])

    script = Script([1.0, 0.2, 0.7])
    stop = kcp.EarlyStopping(patience=10, restore_best_weights=True)
    optimizer = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5)
    model = train(script, stop, Averages(), optimizer=optimizer)
    assert len(averages[1]) == len(model.trainable_variables)
    assert_weights(model, averages[1])  # as every Keras fit with use_ema ends
    model.fit(np.ones((8, 4)), np.ones((8, 1)), verbose=0)  # on JAX: no buffer is shared


def test_a_second_fit_starts_over():
    stop = kcp.EarlyStopping(patience=1)
    train(Script([0.1, 0.2, 0.3]), stop)
    assert stop.stopped_epoch == 1
    train(Script([0.9, 0.8, 0.7]), stop)
    assert (stop.best, stop.stopped_epoch, stop.stop_reason) == (0.7, 0, None)


def test_the_state_goes_round():
    stop = kcp.EarlyStopping(patience=5, restore_best_weights=True)
    script = Script([1.0, 0.5, 0.7])
    train(script, stop)
    other = kcp.EarlyStopping(patience=5, restore_best_weights=True)
    other.set_state(stop.get_state())
    assert (other.best, other.best_epoch, other.wait) == (0.5, 1, 1)
    for got, want in zip(other.best_weights, script.weights[1], strict=True):
        np.testing.assert_array_equal(got, want)


def test_a_missing_metric_is_named_once_and_not_counted():
    stop = kcp.EarlyStopping(monitor="val_acc", mode="max", patience=1)
    with pytest.warns(MissingMetricWarning, match=r"`val_acc`.*loss") as caught:
        train(Script([1.0, 1.0, 1.0]), stop)
    ours = [w for w in caught if w.category is MissingMetricWarning]
    assert len(ours) == 1
    assert (stop.wait, stop.stopped_epoch) == (0, 0)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"mode": "largest"}, 'one of "auto", "min", "max"'),
        ({"patience": -1}, "patience"),
        ({"patience": True}, "patience"),
        ({"monitor": ""}, "monitor"),
        ({"min_delta_mode": "rel"}, "min_delta_mode"),
    ],
)
def test_bad_arguments_are_refused_at_construction(arguments, match):
    with pytest.raises(InvalidArgumentError, match=match):
        kcp.EarlyStopping(**arguments)


def test_an_unknown_direction_says_what_to_pass():
    script = Script([1.0, 0.9])
    with pytest.raises(InvalidArgumentError, match=r'pass `mode="max"`'):
        train(script, kcp.EarlyStopping(monitor="val_goodness"))


def test_is_a_keras_early_stopping_and_can_be_copied():
    stop = kcp.EarlyStopping(patience=2)
    assert isinstance(stop, keras.callbacks.EarlyStopping)
    assert copy.deepcopy(stop).patience == 2
    assert pickle.loads(pickle.dumps(stop)).patience == 2


def test_scores_that_differ_in_float64_only_are_told_apart():
    stop = kcp.EarlyStopping(patience=9)
    train(Script([1.0, 1.0 - 1e-12, 1.0]), stop)
    assert stop.best_epoch == 1


@pytest.mark.parametrize(("mode", "operation"), [("min", "less"), ("max", "greater")])
def test_shows_the_comparison_as_keras_does(mode, operation):
    stop = kcp.EarlyStopping(mode=mode)
    train(Script([1.0]), stop)
    assert stop.monitor_op is getattr(keras.ops, operation)


def test_a_model_of_keras_2_is_refused_with_what_to_do():
    legacy = type("Sequential", (), {"__module__": "tf_keras.src.engine.sequential"})
    with pytest.raises(UnsupportedKerasError, match="unset TF_USE_LEGACY_KERAS"):
        kcp.EarlyStopping().set_model(legacy())


def test_a_run_without_a_usable_value_says_that_nothing_is_restored():
    script = Script([float("nan")] * 3)
    with pytest.warns(MissingMetricWarning, match="no best epoch to restore"):
        model = train(script, kcp.EarlyStopping(patience=9, restore_best_weights=True))
    assert_weights(model, script.weights[-1])
