"""What makes a run another one: each change is named, and what changes nothing is not."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_callbacks_plus as kcp
from keras_callbacks_plus._keras.canonical_config import canonical, wiring
from keras_callbacks_plus.errors import RunMismatchError
from tests.helpers.interrupted import AT_EPOCH, BATCH, Boom, arrays, plain_model, train

pytestmark = pytest.mark.backend


def model_with(**compiled):
    return lambda: plain_model(**compiled)


def skip_connection(from_input):
    def make():
        inputs = keras.Input((4,))
        hidden = keras.layers.Dense(4)(inputs)
        outputs = keras.layers.Dense(4)(hidden)
        added = keras.layers.Add()([outputs, inputs if from_input else hidden])
        model = keras.Model(inputs, keras.layers.Dense(1)(added))
        model.compile("adam", "mse")
        return model

    return make


def of_policy(policy):
    def make():
        keras.config.set_dtype_policy(policy)
        try:
            return plain_model()
        finally:
            keras.config.set_dtype_policy("float32")

    return make


def ordered(seed):
    return lambda: kcp.resumable(*arrays(), batch_size=BATCH, seed=seed)


def classes():
    x, y = arrays()
    return x, (y > 0).astype("float32")


def scheduled():
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 20)
    return plain_model(optimizer=keras.optimizers.Adam(schedule))


CHANGES = {
    "loss": ({}, {"make": model_with(loss="mae")}, 'compiled loss: was "mse", is "mae"'),
    "metrics": ({}, {"make": model_with(metrics=[])}, r'metrics: was \["mae"\], is \[\]'),
    "wiring": (
        {"make": skip_connection(False)},
        {"make": skip_connection(True)},
        r"number 3 \(Add\) inputs was .*layer 1.* is .*layer 0",
    ),
    "policy": (
        {"make": of_policy("mixed_bfloat16")},
        {"make": of_policy("float32")},
        "dtype policy: was mixed_bfloat16, is float32",
    ),
    "class_weight": (
        {"data": classes, "class_weight": {0: 1.0, 1: 5.0}},
        {"data": classes, "class_weight": {0: 1.0, 1: 1.0}},
        "class weights: was .*5.0",
    ),
    "shuffle": ({"shuffle": True}, {"shuffle": False}, "shuffle: was True, is False"),
    "seed": ({"data": ordered(1)}, {"data": ordered(2)}, r"kcp.resumable: .*seed was 1, is 2"),
    "schedule": ({}, {"make": scheduled}, "learning_rate was a number, is a schedule"),
    "number": ({"make": scheduled}, {}, "learning_rate was a schedule, is a number"),
}


@pytest.mark.parametrize("name", list(CHANGES))
def test_a_change_is_named(tmp_path, name):
    before, after, match = CHANGES[name]
    with pytest.raises(Boom):
        train(tmp_path, place=AT_EPOCH, **before)
    with pytest.raises(RunMismatchError, match=match):
        train(tmp_path, **after)


def test_the_wiring_is_the_same_under_other_names():
    one = wiring(skip_connection(True)())
    other = wiring(skip_connection(True)())
    assert one == other != wiring(skip_connection(False)())


def test_the_wiring_of_a_model_in_a_model_counts():
    def outer(inner):
        inputs = keras.Input((4,))
        return keras.Model(inputs, keras.layers.Dense(1)(inner(inputs)))

    def text(from_input):
        return canonical(outer(skip_connection(from_input)()).get_config()["layers"])

    layers = [canonical(outer(skip_connection(f)()).layers[1].get_config()) for f in (0, 1)]
    assert layers[0] != layers[1]
    assert text(True) != text(False)


@pytest.mark.parametrize("loss", [lambda a, b: keras.ops.mean((a - b) ** 2)], ids=["lambda"])
def test_functions_of_ones_own_are_no_difference(tmp_path, loss):
    make = model_with(loss=loss)
    with pytest.raises(Boom):
        train(tmp_path, place=AT_EPOCH, make=make)
    history = train(tmp_path, make=make)["history"]
    assert np.isfinite(history["loss"]).all()
