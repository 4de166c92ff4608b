"""A layout without values: that values put into it make the file, however it was laid out."""

from __future__ import annotations

import io
import threading

import h5py
import numpy as np
import pytest

from keras_callbacks_plus._keras.h5_image import Dataset, Group, H5Image

GROUPS = [
    Group("layers/dense/vars", {"name": "dense"}, [Dataset("0", (3, 2), np.dtype("float32"))]),
    Group("vars", {}, [Dataset("0", (), np.dtype("int64")), Dataset("1", (0,), np.dtype("int8"))]),
]
VALUES = [np.arange(6, dtype="float32").reshape(3, 2), np.int64(7), np.empty(0, "int8")]


def refuse(thread):
    raise RuntimeError("can't start new thread")


def filled(image):
    buffer = np.zeros(image.size, np.uint8)
    for array, value in zip(image.prepare(buffer), VALUES, strict=True):
        array[...] = value
    return buffer.tobytes()


def test_values_put_into_the_layout_are_read_back():
    with h5py.File(io.BytesIO(filled(H5Image(GROUPS)))) as file:
        assert file["layers/dense/vars"].attrs["name"] == "dense"
        np.testing.assert_array_equal(file["layers/dense/vars/0"][()], VALUES[0])
        assert file["vars/0"][()] == 7
        assert file["vars/1"].shape == (0,)


@pytest.mark.parametrize("refused", [False, True])
def test_it_is_laid_out_apart_from_the_memory_of_training(monkeypatch, refused):
    """In a thread of its own, if there is one: see `_beside_training`, and the benchmark."""
    threads = []
    lay_out = H5Image._lay_out

    def noted(image, groups):
        threads.append(threading.get_ident())
        lay_out(image, groups)

    monkeypatch.setattr(H5Image, "_lay_out", noted)
    if refused:
        monkeypatch.setattr(threading.Thread, "start", refuse)
    H5Image(GROUPS)
    assert [thread == threading.get_ident() for thread in threads] == [refused]


def test_where_no_thread_can_be_started_the_layout_is_the_same(monkeypatch):
    usual = filled(H5Image(GROUPS))
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert filled(H5Image(GROUPS)) == usual


def test_what_has_no_fixed_size_is_refused():
    text = Group("vars", {}, [Dataset("0", (2,), np.dtype(object))])
    with pytest.raises(TypeError, match=r"/vars/0 is of type object"):
        H5Image([text])
