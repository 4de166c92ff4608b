"""Which names a file may get, and that the two functions mean the same."""

from __future__ import annotations

import itertools

import pytest

from keras_callbacks_plus.storage.versions import is_version_of, versions

WISHED = ["05.keras", "05.weights.h5", "a.b.h5", "model", "x-v2.keras", "*(1).keras"]


@pytest.mark.parametrize("wished", WISHED)
def test_every_version_is_one(wished):
    names = list(itertools.islice(versions(wished), 12))
    assert len(set(names)) == 12
    assert names[0] == wished
    assert all(is_version_of(name, wished) for name in names)


@pytest.mark.parametrize(
    "name",
    [
        "copy of 05.keras",
        "05 (1).keras",
        "05-v0.keras",
        "05-v01.keras",
        "05-v.keras",
        "05-v1.weights.h5",
        "055.keras",
        "05xkeras",
        "05.keras-v1",
    ],
)
def test_another_name_is_none(name):
    assert not is_version_of(name, "05.keras")


def test_the_ending_is_kept():
    assert list(itertools.islice(versions("05.weights.h5"), 2)) == [
        "05.weights.h5",
        "05-v1.weights.h5",
    ]
