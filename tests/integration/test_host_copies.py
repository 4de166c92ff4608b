"""Copying with several threads gives what copying with one would."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_callbacks_plus._keras import host_copies


@pytest.mark.parametrize("cores", [1, 3])
def test_every_byte_arrives_whatever_the_sizes_and_the_cores(monkeypatch, cores):
    monkeypatch.setattr(host_copies, "_usable_cores", lambda: cores)
    monkeypatch.setattr(host_copies, "_BATCH", 12 << 20)  # so that there are several
    random = np.random.default_rng(0)
    shapes = [(), (0,), (3, 5), (1021, 1031), (7,), (2_000_003,), (1 << 21,)]
    expected = [random.normal(size=shape).astype("float32") for shape in shapes]
    variables = [keras.Variable(value) for value in expected]
    targets = [np.full(shape, np.nan, "float32") for shape in shapes]
    with host_copies.HostCopies() as copies:
        for target, variable in zip(targets, variables, strict=True):
            copies.put(target, variable)
    for target, value in zip(targets, expected, strict=True):
        np.testing.assert_array_equal(target, value)


def test_where_no_thread_can_be_started_one_copies_all(monkeypatch):
    def submit(self, *arguments):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(host_copies, "_usable_cores", lambda: 3)
    monkeypatch.setattr(host_copies.ThreadPoolExecutor, "submit", submit)
    expected = np.random.default_rng(0).normal(size=4 << 20).astype("float32")
    target = np.zeros_like(expected)
    with host_copies.HostCopies() as copies:
        copies.put(target, keras.Variable(expected))
    np.testing.assert_array_equal(target, expected)


def test_an_error_in_any_thread_is_raised(monkeypatch):
    monkeypatch.setattr(host_copies, "_usable_cores", lambda: 3)
    target = np.zeros(4 << 20, "float16")  # of another type than the variable
    with pytest.raises(TypeError, match="Cannot cast"), host_copies.HostCopies() as copies:
        copies.put(target, keras.Variable(np.zeros(4 << 20, "float32")))
