"""The values of variables arrive, however this backend lets us read them."""

from __future__ import annotations

import gc
import weakref

import keras
import numpy as np
import pytest

from keras_callbacks_plus._keras import compat, host_copies, host_view
from keras_callbacks_plus._keras.host_copies import VariableReader, copying_to_host


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "bool"])
def test_every_byte_arrives_as_often_as_it_is_asked_for(dtype):
    reader = VariableReader()
    random = np.random.default_rng(0)
    shapes = [(), (3, 5), (1021, 1031), (7,), (2_000_003,), (1 << 21,), (5_000_011,)]
    variables = [
        keras.Variable(random.integers(0, 2, size=shape), dtype=dtype, trainable=False)
        for shape in shapes
    ]
    kind = np.asarray(keras.ops.convert_to_numpy(variables[0])).dtype
    targets = [np.zeros(shape, kind) for shape in shapes]
    for turn in range(3):  # the second one with what the first has laid out
        expected = [random.integers(0, 2, size=shape).astype(kind) for shape in shapes]
        for variable, value in zip(variables, expected, strict=True):
            variable.assign(value)
        with copying_to_host(reader, sum(target.nbytes for target in targets)) as copies:
            for target, variable in zip(targets[turn:], variables[turn:], strict=True):
                copies.put(target, variable)
            copies.start()
        for target, value in zip(targets[turn:], expected[turn:], strict=True):
            np.testing.assert_array_equal(target, value)


def test_an_error_is_raised():
    target = np.zeros(4 << 20, "float16")  # of another type than the variable
    variable = keras.Variable(np.zeros(4 << 20, "float32"))
    copying = copying_to_host(VariableReader(), target.nbytes)
    with pytest.raises(TypeError, match="Cannot cast"), copying as copies:
        copies.put(target, variable)


def test_what_is_copied_to_be_read_is_read_once(monkeypatch):
    """TensorFlow has no view of bfloat16: a view for each piece would be a copy of all of it."""
    variable = keras.Variable(np.ones((5 << 20,)), dtype="bfloat16", trainable=False)
    target = np.zeros(variable.shape, np.asarray(compat.to_numpy(variable.value)).dtype)
    read = []
    array_of = host_copies.array_of
    monkeypatch.setattr(
        host_copies, "array_of", lambda held: (read.append(held), array_of(held))[1]
    )
    shares = host_view.shares_memory(host_view.held_value(variable))
    assert shares == (compat.backend() != "tensorflow")
    with copying_to_host(VariableReader(), target.nbytes) as copies:
        copies.put(target, variable)
    assert (target == 1).all()
    assert shares or len(read) == 1


@pytest.mark.tensorflow
def test_what_was_read_once_is_not_held_forever():
    reader, first = VariableReader(), []
    for turn in range(20):
        variables = [keras.Variable(np.full(3, n + turn, "float32")) for n in range(2)]
        first = first or [weakref.ref(compat.raw_value(variable)) for variable in variables]
        arrays = [view(held) for held, view in reader.hold(variables)]
        np.testing.assert_array_equal(arrays, [[turn] * 3, [turn + 1] * 3])
    assert len(reader._calls) <= host_copies._CALLS
    gc.collect()
    assert [held() for held in first] == [None, None]


@pytest.mark.tensorflow
def test_the_variables_of_a_distribution_strategy(tmp_path):
    import tensorflow as tf

    from keras_callbacks_plus import ModelCheckpoint

    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        model.compile("adam", "mse")
        model.fit(
            np.ones((8, 4)),
            np.ones((8, 3)),
            epochs=2,
            verbose=0,
            callbacks=[ModelCheckpoint(tmp_path / "{epoch}.weights.h5", save_weights_only=True)],
        )
        kernel = np.array(model.layers[0].get_weights()[0])
    plain = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    plain.load_weights(tmp_path / "2.weights.h5")
    np.testing.assert_array_equal(plain.layers[0].get_weights()[0], kernel)
