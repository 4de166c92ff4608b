"""Keras's own tests of `ModelCheckpoint` pass with ours in its place."""

from __future__ import annotations

from pathlib import Path

import pytest

import keras_callbacks_plus as kcp
from tests.helpers.keras_conformance import keras_test_cases, without_cases

pytestmark = pytest.mark.backend

# Each stands in docs/explanation/differences_from_keras.md, too.
DROPPED = {
    "5": "with the metric missing nothing is saved as the best, and a warning of ours says so",
    "6": "an unknown mode is an error, not a warning and a guess",
}
REWORDED = {  # every error of ours begins with the argument: "`save_freq` must be ..."
    '"Unrecognized save_freq"': '"`save_freq` must be"',
}
CASES = keras_test_cases(
    "model_checkpoint",
    {"ModelCheckpoint": kcp.ModelCheckpoint},
    dropped=DROPPED,
    reworded=REWORDED,
)
globals().update(CASES)


def test_what_is_left_out_stands_in_the_documentation():
    page = Path(__file__).parents[2] / "docs" / "explanation" / "differences_from_keras.md"
    text = " ".join(page.read_text(encoding="utf-8").split())
    words = [f"case {case} " for case in DROPPED] + [theirs.strip('"') for theirs in REWORDED]
    assert [these for these in words if these not in text] == []


SOURCE = """def test():
    a()
    # Case 1
    b()

    # Case 2: c
    c()

def d():
    e()
"""


def test_a_dropped_case_takes_nothing_else_with_it():
    assert without_cases(SOURCE, {"1"}).split() == (
        SOURCE.replace("b()", "").replace("# Case 1", "").split()
    )
    last = without_cases(SOURCE, {"2"})
    assert last.split() == SOURCE.replace("    # Case 2: c\n    c()\n", "").split()
    assert last.splitlines()[8:] == SOURCE.splitlines()[8:]
    with pytest.raises(LookupError, match="no case 3"):
        without_cases(SOURCE, {"3"})
