"""`CallbackStates`: what of each callback is state, whoever wrote it."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_callbacks_plus._keras.callback_state import CallbackStates
from keras_callbacks_plus._keras.plain_state import is_plain

pytestmark = pytest.mark.backend


class Stranger(keras.callbacks.Callback):
    def __init__(self, alpha=0.1):
        super().__init__()
        self.alpha = alpha
        self.seen = []
        self.total = np.zeros(2)
        self.handle = None


def test_a_strangers_changed_plain_attributes_are_its_state():
    before = Stranger(alpha=0.1)
    states = CallbackStates([before])
    before.seen.append(3)
    before.total += 1
    captured, lost = states.capture()
    assert lost == []

    after = Stranger(alpha=0.2)  # the restarted script has another argument
    CallbackStates([after]).restore(captured, CallbackStates.names([after]))
    assert after.seen == [3]
    np.testing.assert_array_equal(after.total, [1, 1])
    assert after.alpha == 0.2


def test_what_was_captured_does_not_change_with_the_callback():
    callback = Stranger()
    states = CallbackStates([callback])
    callback.seen.append(1)
    captured, _ = states.capture()
    callback.seen.append(2)
    assert captured[0]["attributes"]["seen"] == [1]


def test_an_attribute_that_cannot_be_kept_is_named():
    callback = Stranger()
    states = CallbackStates([callback])
    callback.handle = object()
    _, lost = states.capture()
    assert lost == ["Stranger.handle (a object)"]


def test_keras_own_callbacks_keep_their_state():
    before = keras.callbacks.ReduceLROnPlateau(patience=3)
    before.best, before.wait, before.cooldown_counter = 0.5, 2, 1
    captured, lost = CallbackStates([before]).capture()
    after = keras.callbacks.ReduceLROnPlateau(patience=5)
    CallbackStates([after]).restore(captured, CallbackStates.names([after]))
    assert (after.best, after.wait, after.cooldown_counter) == (0.5, 2, 1)
    assert after.patience == 5
    assert lost == []


def test_history_is_kept_and_copied():
    before = keras.callbacks.History()
    before.history, before.epoch = {"loss": [1.0, 0.5]}, [0, 1]
    captured, _ = CallbackStates([before]).capture()
    before.history["loss"].append(0.1)
    after = keras.callbacks.History()
    CallbackStates([after]).restore(captured, CallbackStates.names([after]))
    assert after.history == {"loss": [1.0, 0.5]}
    assert after.epoch == [0, 1]


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (None, True),
        (float("nan"), True),
        ({"a": [1, (2, "x")]}, True),
        (np.arange(3), True),
        (np.float32(1), True),
        (np.array([object()]), False),
        ({(1, 2): 3}, False),
        (object(), False),
        ([print], False),
    ],
)
def test_plain_data(value, plain):
    assert is_plain(value) is plain
