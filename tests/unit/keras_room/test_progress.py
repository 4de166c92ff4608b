"""Hook numbers as observed on Keras 3.10 and 3.11+, and the batches they stand for."""

from __future__ import annotations

import pytest

from keras_callbacks_plus._keras.progress import batches_done

OLD, NEW, NEWEST = (3, 10), (3, 11), (3, 15)

# Keras's version, steps, steps_per_execution, the hook's numbers in one epoch, batches done.
ROWS = [
    (OLD, 10, 1, range(10), range(1, 11)),
    (NEW, 10, 1, range(10), range(1, 11)),
    (OLD, 10, 4, [0, 4, 8], [4, 8, 10]),
    (NEW, 10, 4, [3, 7, 11], [4, 8, 10]),
    (NEWEST, 10, 4, [3, 7, 11], [4, 8, 10]),
    (OLD, 8, 4, [0, 4], [4, 8]),
    (NEW, 8, 4, [3, 7], [4, 8]),
    (OLD, 3, 4, [0], [3]),
    (NEW, 3, 4, [3], [3]),
    (OLD, None, 4, [0, 4, 8], [4, 8, 12]),  # unknown: the last answer may be too high
    (NEW, None, 4, [3, 7, 11], [4, 8, 12]),
    ((4, 0), 10, 4, [3, 7, 11], [4, 8, 10]),
]


@pytest.mark.parametrize(("version", "steps", "per_execution", "numbers", "expected"), ROWS)
def test_batches_done(version, steps, per_execution, numbers, expected):
    done = [
        batches_done(number, steps=steps, steps_per_execution=per_execution, keras_version=version)
        for number in numbers
    ]
    assert done == list(expected)
