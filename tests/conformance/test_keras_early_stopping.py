"""Keras's own tests of `EarlyStopping` pass with ours in its place."""

from __future__ import annotations

import pytest

import keras_callbacks_plus as kcp
from tests.helpers.keras_conformance import keras_test_cases

pytestmark = pytest.mark.backend

CASES = keras_test_cases(
    "early_stopping",
    {"EarlyStopping": kcp.EarlyStopping},
    different={
        "EarlyStoppingTest.test_early_stopping_final_weights_when_restoring_model_weights": (
            "it counts improvements that are worse than the baseline as none, as Keras did until "
            "its pull request 23559"
        )
    },
)
globals().update(CASES)
