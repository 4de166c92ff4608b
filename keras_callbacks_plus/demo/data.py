"""The data of the demo: scikit-learn's 1,797 handwritten digits, which need no download."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

__all__ = ["Digits", "load"]

_FIRST_VALIDATION, _FIRST_TEST = 1197, 1497  # of 1,797: 1,197 to train on, 300 and 300


class Digits(NamedTuple):
    """Images of shape `(n, 8, 8, 1)` in [0, 1], and their labels 0 to 9."""

    train: tuple[Any, Any]
    validation: tuple[Any, Any]
    test: tuple[Any, Any]


def load() -> Digits:
    """Reads the digits from inside scikit-learn, and splits them, always in the same way."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images / 16.0).astype("float32")[..., np.newaxis]
    labels = digits.target.astype("int32")
    order = np.random.default_rng(0).permutation(len(images))
    parts = np.split(order, [_FIRST_VALIDATION, _FIRST_TEST])
    return Digits(*((images[part], labels[part]) for part in parts))
