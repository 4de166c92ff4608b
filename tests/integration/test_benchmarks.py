"""The benchmarks run, at a size at which their figures mean nothing."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import keras
import pytest

BENCHMARKS = pathlib.Path(__file__).parents[2] / "benchmarks"
SCRIPT = BENCHMARKS / "checkpoint_stall.py"


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
    assert ("kcp .keras, copy-on-write" in result["stalls"]) == (backend != "torch")
    assert all(min(taken["stall"]) > 0 for taken in result["stalls"].values())
    for kind in ("nothing", "memcpy", ".weights.h5", ".keras"):
        assert len(result["steps"][kind]) == 1
    assert set(result["durable"]) == {".weights.h5", ".keras"}
    targets = {verdict["what"]: verdict for verdict in result["verdicts"]}
    slow = targets["speed of .weights.h5 / plain write + fsync"]  # a file and a manifest
    assert 0 < slow["ratio"] < 0.8
    assert slow["met"] is False
    assert targets["stall of .weights.h5 / memcpy"]["target"].startswith("<= 1.")
    assert targets["step while writing .keras / idle"]["target"] == "<= 1.1x"


@pytest.mark.jax
@pytest.mark.skipif(not SCRIPT.exists(), reason="the wheel's tests run without the benchmarks")
def test_the_benchmark_of_the_resume_answers_its_four_questions():
    command = [sys.executable, str(BENCHMARKS / "resume_overhead.py")]
    flags = ["--steps", "8", "--rounds", "2", "--width", "8", "--params", "300"]
    done = subprocess.run([*command, *flags], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["resumable_epoch_over_arrays"] > 0
    assert result["share_of_the_run"] == pytest.approx(
        result["handler_us_a_batch"] / 5000 + result["snapshot_stall_ms"] / 60_000, abs=1e-4
    )
    assert result["large_model"]["speed_of_checked_over_plain"] > 0
