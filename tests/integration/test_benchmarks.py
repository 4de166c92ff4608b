"""The benchmarks run, at a size at which their figures mean nothing."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import keras
import pytest

SCRIPT = pathlib.Path(__file__).parents[2] / "benchmarks" / "checkpoint_stall.py"


@pytest.mark.jax  # which starts soonest; all three take the same way
@pytest.mark.skipif(not SCRIPT.exists(), reason="the wheel's tests run without the benchmarks")
def test_the_stall_benchmark_measures_every_way_and_judges_every_target():
    backend = keras.backend.backend()
    command = [sys.executable, str(SCRIPT), "--backend", backend, "--params", "300"]
    flags = ["--rounds", "1", "--phase", "0.01", "--skip-memory", "--json"]
    done = subprocess.run([*command, *flags], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)["results"]
    assert result["backend"] == backend
    assert result["bytes"] > 3 * 4 * 300  # the weights and Adam's two slots
    ways = {"memcpy into warm memory", "kcp .weights.h5", "kcp .keras"}
    assert ways < set(result["stalls"])
    assert ("kcp .keras, copy-on-write" in result["stalls"]) == (backend == "tensorflow")
    assert all(min(taken["stall"]) > 0 for taken in result["stalls"].values())
    for kind in ("nothing", "memcpy", ".weights.h5", ".keras"):
        assert len(result["steps"][kind]) == 1
    targets = {verdict["what"]: verdict for verdict in result["verdicts"]}
    slow = targets["speed of .weights.h5 / plain write + fsync"]  # a file and a manifest
    assert 0 < slow["ratio"] < 0.8
    assert slow["met"] is False
    assert targets["stall of .weights.h5 / memcpy"]["target"].startswith("<= 1.")
