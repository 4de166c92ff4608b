"""Keras's own tests of `LearningRateScheduler` pass with ours in its place."""

from __future__ import annotations

import pytest

import keras_callbacks_plus as kcp
from tests.helpers.keras_conformance import keras_test_cases

pytestmark = pytest.mark.backend

CASES = keras_test_cases(
    "learning_rate_scheduler", {"LearningRateScheduler": kcp.LearningRateScheduler}
)
globals().update(CASES)


def test_there_are_tests_and_they_see_our_class():
    (case,) = CASES.values()
    assert len([name for name in dir(case) if name.startswith("test_")]) >= 5
    seen = case.test_updates_learning_rate.__globals__["callbacks"]
    assert seen.LearningRateScheduler is kcp.LearningRateScheduler


def test_keras_itself_is_not_patched():
    import keras

    assert keras.callbacks.LearningRateScheduler is not kcp.LearningRateScheduler


def test_a_skip_of_a_test_that_is_not_there_is_an_error():
    with pytest.raises(AttributeError, match="test_nothing"):
        keras_test_cases(
            "learning_rate_scheduler",
            {"LearningRateScheduler": kcp.LearningRateScheduler},
            different={"LearningRateSchedulerTest.test_nothing": "no reason"},
        )


def test_a_class_that_the_file_does_not_name_is_an_error():
    with pytest.raises(LookupError, match="EarlyStopping"):
        keras_test_cases("csv_logger", {"EarlyStopping": object})
