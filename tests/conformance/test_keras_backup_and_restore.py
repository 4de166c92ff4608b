"""Keras's own tests of `BackupAndRestore` pass with ours in its place, but for what is listed."""

from __future__ import annotations

import pytest

import keras_callbacks_plus as kcp
from tests.helpers.keras_conformance import keras_test_cases

pytestmark = pytest.mark.backend

CASE = "BackupAndRestoreCallbackTest"
CASES = keras_test_cases(
    "backup_and_restore",
    {"BackupAndRestore": kcp.BackupAndRestore},
    different={
        f"{CASE}.test_save_freq_unknown_error": 'save_freq="batch" is accepted, as elsewhere',
        f"{CASE}.test_best_case_step": (
            "pins 17 steps for a run of 15: the batches of the killed epoch are trained twice. "
            "Resumes with another list of callbacks, and reads private attributes"
        ),
        f"{CASE}.test_best_case_epoch": (
            "resumes with another list of callbacks, and reads a private attribute"
        ),
        f"{CASE}.test_backup_corrupted": (
            "resumes with another list of callbacks, and reads the private paths of four files"
        ),
    },
)
globals().update(CASES)


def test_there_are_tests_and_they_see_our_class():
    (case,) = CASES.values()
    assert len([name for name in dir(case) if name.startswith("test_")]) >= 7
    seen = case.test_model_deleted_case_epoch.__globals__["callbacks"]
    assert seen.BackupAndRestore is kcp.BackupAndRestore
