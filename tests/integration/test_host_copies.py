"""The values of variables arrive, however this backend lets us read them."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_callbacks_plus._keras.host_copies import VariableReader, copying_to_host


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "bool"])
def test_every_byte_arrives_as_often_as_it_is_asked_for(dtype):
    reader = VariableReader()
    random = np.random.default_rng(0)
    shapes = [(), (3, 5), (1021, 1031), (7,), (2_000_003,), (1 << 21,)]
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
