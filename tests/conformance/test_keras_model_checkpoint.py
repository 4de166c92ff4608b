"""Keras's own tests of `ModelCheckpoint` pass with ours in its place."""

from __future__ import annotations

import pytest

import keras_callbacks_plus as kcp
from tests.helpers.keras_conformance import keras_test_cases

pytestmark = pytest.mark.backend

CASES = keras_test_cases(
    "model_checkpoint",
    {"ModelCheckpoint": kcp.ModelCheckpoint},
    different={
        "ModelCheckpointTest.test_model_checkpoint_options": (
            "cases 5 and 6: with the metric missing nothing is saved as the best, and an unknown "
            "mode is an error; test_model_checkpoint.py has its other cases"
        )
    },
)
globals().update(CASES)
