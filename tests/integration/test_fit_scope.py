"""`FitScope`: between everybody's hooks, and how `fit` ends, on every backend."""

from __future__ import annotations

import gc
import os
import signal
import threading
import weakref

import keras
import numpy as np
import pytest

from keras_callbacks_plus._keras.fit_scope import FitScope
from keras_callbacks_plus.errors import InvalidArgumentError

pytestmark = pytest.mark.backend


@pytest.fixture(autouse=True)
def _ctrl_c_raises():
    """Also where the tests run in the background, whose processes ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Boom(Exception):
    """Raised by the tests' saboteurs."""


def small_model(optimizer="adam"):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dropout(0.2), keras.layers.Dense(1)]
    )
    model.compile(optimizer, "mse")
    return model


def data():
    x = np.random.default_rng(0).random((32, 4)).astype("float32")
    return x, x.sum(1, keepdims=True)


class Watcher(keras.callbacks.Callback):
    """Registers a handler of each kind, and restores the weights of epoch 0 on failure."""

    def __init__(self):
        super().__init__()
        self.failures, self.phases, self.epochs_seen = [], [], []
        self.kept = None

    def on_train_begin(self, logs=None):
        scope = FitScope.of(self)
        self.scope = scope
        scope.on_failure("restore", self.failed)
        scope.on_failure("save", lambda error: self.phases.append("save"))
        scope.on_failure("close", lambda error: self.phases.append("close"))
        scope.at("after_epoch_end", self.after_epoch)

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 0:
            self.kept = self.model.get_weights()

    def after_epoch(self, epoch, logs=None):
        self.epochs_seen.append((epoch, list(self._model.history.epoch)))

    def failed(self, error):
        self.phases.append("restore")
        self.failures.append(type(error).__name__)
        self.model.set_weights(self.kept)


class FailsAt(keras.callbacks.Callback):
    """Raises at the eighth call of a hook."""

    def __init__(self, hook):
        super().__init__()
        self.calls = 0
        setattr(self, hook, self.count)

    def count(self, *args, **kwargs):
        self.calls += 1
        if self.calls == 8:
            raise Boom


def assert_left_clean(model):
    assert "evaluate" not in vars(model)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    x, y = data()
    model.fit(x, y, verbose=0, epochs=1)  # still usable


@pytest.mark.parametrize(
    "hook",
    [
        "on_train_batch_begin",
        "on_train_batch_end",
        "on_epoch_begin",
        "on_epoch_end",
        "on_test_begin",
        "on_test_batch_end",
        "on_test_end",
    ],
)
@pytest.mark.parametrize("first", [True, False], ids=["watcher first", "watcher last"])
def test_an_exception_in_any_hook_reaches_the_handlers_once(hook, first):
    model, watcher, (x, y) = small_model(), Watcher(), data()
    callbacks = [watcher, FailsAt(hook)] if first else [FailsAt(hook), watcher]
    with pytest.raises(Boom):
        model.fit(
            x, y, batch_size=8, epochs=30, verbose=0, validation_data=(x, y), callbacks=callbacks
        )
    assert watcher.failures == ["Boom"]
    assert watcher.phases == ["save", "restore", "close"]
    for got, kept in zip(model.get_weights(), watcher.kept, strict=True):
        np.testing.assert_array_equal(got, kept)
    assert_left_clean(model)


def test_an_exception_that_a_callback_handles_ends_nothing():
    class Evaluates(keras.callbacks.Callback):
        caught = 0

        def on_epoch_end(self, epoch, logs=None):
            try:
                self.model.evaluate(np.zeros((8, 3)), np.zeros((8, 1)), verbose=0)
            except Exception:  # noqa: BLE001 - as a user's callback would
                self.caught += 1

    model, watcher, evaluates, (x, y) = small_model(), Watcher(), Evaluates(), data()
    model.fit(x, y, epochs=3, verbose=0, callbacks=[watcher, evaluates])
    assert evaluates.caught == 3
    assert watcher.failures == []
    assert [epoch for epoch, _ in watcher.epochs_seen] == [0, 1, 2]
    assert_left_clean(model)


@pytest.mark.parametrize("hook", ["on_epoch_begin", "on_epoch_end", "on_test_end"])
def test_an_iterator_of_a_callback_that_is_exhausted_ends_fit_like_any_error(hook):
    class Draws(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            rates = iter([0.1, 0.2])
            setattr(self, hook, lambda *args, **kwargs: next(rates))

    model, watcher, (x, y) = small_model(), Watcher(), data()
    with pytest.raises(StopIteration):
        model.fit(x, y, epochs=5, verbose=0, validation_data=(x, y), callbacks=[watcher, Draws()])
    assert watcher.failures == ["StopIteration"]
    assert_left_clean(model)


def test_an_exception_in_the_data_reaches_the_handlers():
    x, y = data()

    def batches():
        for i in range(100):
            if i == 10:
                raise Boom
            yield x[:8], y[:8]

    model, watcher = small_model(), Watcher()
    with pytest.raises(Exception) as caught:
        model.fit(
            batches(), steps_per_epoch=4, epochs=25, verbose=0, shuffle=False, callbacks=[watcher]
        )
    on_tensorflow = keras.backend.backend() == "tensorflow"  # which wraps it into its own error
    assert type(caught.value).__name__ == ("UnknownError" if on_tensorflow else "Boom")
    assert watcher.failures == [type(caught.value).__name__]
    assert_left_clean(model)


class InterruptsLater(keras.callbacks.Callback):
    """Sends Ctrl-C from a timer after epoch 1 has ended."""

    def __init__(self, delay):
        super().__init__()
        self.delay = delay

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            kill = lambda: os.kill(os.getpid(), signal.SIGINT)  # noqa: E731 - a thunk
            self.timer = threading.Timer(self.delay, kill)
            self.timer.start()


@pytest.mark.parametrize("delay", [0.01, 0.05, 0.11, 0.17, 0.23])
def test_ctrl_c_at_any_moment_leaves_a_usable_model_with_the_restored_weights(delay):
    model, watcher, (x, y) = small_model(), Watcher(), data()
    model.fit(x, y, verbose=0)
    with pytest.raises(KeyboardInterrupt):
        model.fit(
            x,
            y,
            batch_size=8,
            epochs=1_000_000,
            verbose=0,
            validation_data=(x, y),
            callbacks=[InterruptsLater(delay), watcher],
        )
    assert watcher.failures == ["KeyboardInterrupt"]
    for got, kept in zip(model.get_weights(), watcher.kept, strict=True):
        np.testing.assert_array_equal(got, kept)
    assert_left_clean(model)


def test_handlers_after_the_epoch_run_after_history():
    model, watcher, (x, y) = small_model(), Watcher(), data()
    model.fit(x, y, epochs=3, verbose=0, callbacks=[watcher])
    assert watcher.epochs_seen == [(0, [0]), (1, [0, 1]), (2, [0, 1, 2])]
    assert watcher.failures == []
    assert_left_clean(model)


def test_restored_weights_stand_under_a_moving_average():
    """On JAX, Keras writes the averages over the weights even after an exception."""
    model = small_model(keras.optimizers.SGD(0.01, use_ema=True, ema_momentum=0.5))
    watcher, (x, y) = Watcher(), data()
    with pytest.raises(Boom):
        model.fit(x, y, verbose=0, epochs=30, callbacks=[FailsAt("on_epoch_end"), watcher])
    for got, kept in zip(model.get_weights(), watcher.kept, strict=True):
        np.testing.assert_array_equal(got, kept)
    assert "finalize_variable_values" not in vars(model.optimizer)


def test_a_fit_that_failed_in_on_train_begin_leaves_nothing_behind_for_the_next():
    class FailsAtOnce(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            raise Boom

    model, watcher, (x, y) = small_model(), Watcher(), data()
    with pytest.raises(Boom):
        model.fit(x, y, verbose=0, callbacks=[watcher, FailsAtOnce()])
    assert "evaluate" not in vars(model)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    again = Watcher()
    model.fit(x, y, epochs=2, verbose=0, callbacks=[again])
    assert watcher.failures == []
    assert watcher.epochs_seen == []
    assert [epoch for epoch, _ in again.epochs_seen] == [0, 1]
    assert_left_clean(model)


class Interrupts(keras.callbacks.Callback):
    """Presses Ctrl-C in a hook, once."""

    def __init__(self, hook):
        super().__init__()
        self.calls = []
        setattr(self, hook, lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGINT))

    def on_test_batch_end(self, batch, logs=None):
        self.calls.append(batch)


def test_ctrl_c_in_validation_does_not_wait_for_its_end():
    model, watcher, press, (x, y) = small_model(), Watcher(), Interrupts("on_test_begin"), data()
    watcher.kept = model.get_weights()
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y, verbose=0, batch_size=4, validation_data=(x, y), callbacks=[watcher, press])
    assert press.calls == []
    assert watcher.failures == ["KeyboardInterrupt"]
    assert_left_clean(model)


@pytest.mark.parametrize("first", [True, False])
def test_ctrl_c_while_fit_ends_is_not_lost(first):
    model, callbacks, (x, y) = small_model(), [Watcher(), Interrupts("on_train_end")], data()
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y, verbose=0, callbacks=callbacks if first else callbacks[::-1])
    assert_left_clean(model)


def test_a_failure_in_on_train_end_leaves_the_averages_of_the_next_fit_alone():
    """Keras has written them by then; on JAX, a second time would come with the next `fit`."""
    model = small_model(keras.optimizers.SGD(0.01, use_ema=True, ema_momentum=0.5))

    class FailsAtTheEnd(keras.callbacks.Callback):
        def on_train_end(self, logs=None):
            raise Boom

    x, y = data()
    with pytest.raises(Boom):
        model.fit(x, y, verbose=0, callbacks=[Watcher(), FailsAtTheEnd()])
    assert "finalize_variable_values" not in vars(model.optimizer)


def test_failures_in_on_train_begin_keep_no_model_alive():
    alive = []
    for _ in range(3):
        model, (x, y) = small_model(), data()
        alive.append(weakref.ref(model))

        class FailsAtOnce(keras.callbacks.Callback):
            def on_train_begin(self, logs=None):
                raise Boom

        with pytest.raises(Boom):
            model.fit(x, y, verbose=0, callbacks=[Watcher(), FailsAtOnce()])
        del model
    keras.backend.clear_session()
    gc.collect()
    assert [ref() for ref in alive[:-1]] == [None, None]  # of the last, pytest has the traceback


def test_a_callback_that_is_there_twice_is_refused():
    model, watcher, (x, y) = small_model(), Watcher(), data()
    with pytest.raises(InvalidArgumentError, match="Remove one Watcher"):
        model.fit(x, y, verbose=0, callbacks=[watcher, watcher])


def test_outside_of_fit_there_is_no_scope():
    watcher = Watcher()
    assert FitScope.of(watcher) is None


def test_all_callbacks_of_a_fit_share_one_scope():
    model, (x, y) = small_model(), data()
    watchers = [Watcher(), Watcher()]
    model.fit(x, y, verbose=0, callbacks=watchers)
    assert watchers[0].scope is watchers[1].scope


def test_watching_does_not_change_the_run():
    (x, y), ends = data(), []
    for callbacks in ([], [Watcher()]):
        model = small_model()
        model.fit(x, y, batch_size=8, epochs=3, verbose=0, callbacks=callbacks)
        ends.append(model.get_weights())
    for plain, watched in zip(*ends, strict=True):
        np.testing.assert_array_equal(plain, watched)
