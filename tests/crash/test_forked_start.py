"""The starts of the campaign end as they are said to: with a result, an error, a kill or a dump."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import dataclasses, json, sys, time
from pathlib import Path
from tests.crash.forked_start import Kill, start


def returns(say):
    say("a")
    return {"some": 1.5}


def fails(say):
    raise ValueError("as it must")


def waits(say):
    say("a")
    time.sleep(999)


arguments = {
    "returns": (returns, None),
    "fails": (fails, None),
    "is killed": (waits, Kill(0.01)),
    "is killed after a word": (waits, Kill(0.0, after="a")),
    "hangs": (waits, None),
}
program, kill = arguments[sys.argv[2]]
ended = start(program, Path(sys.argv[1]), kill, limit=0.5 if kill is None else 60)
print(json.dumps(dataclasses.asdict(ended)))
"""


def ended(tmp_path, how):
    """How a start ended, told by a process that has nothing imported: one that may be forked."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "log"), how],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    return json.loads(done.stdout)


@pytest.mark.jax  # no backend has a part in it
@pytest.mark.parametrize(
    ("how", "result", "killed", "told"),
    [
        ("returns", {"some": 1.5}, False, None),
        ("fails", None, False, "ValueError: as it must"),
        ("is killed", None, True, None),
        ("is killed after a word", None, True, None),
        ("hangs", None, False, "in waits"),
    ],
)
def test_a_start_says_how_it_ended(tmp_path, how, result, killed, told):
    found = ended(tmp_path, how)
    assert (found["result"], found["killed"]) == (result, killed)
    assert (told is None and found["error"] is None) or told in found["error"]
    assert "" in found["said"]
