"""Layer 1 stands on the standard library alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]

USE_WITHOUT_KERAS = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"keras", "numpy", "tensorflow", "jax", "torch"}:
            raise ModuleNotFoundError(f"{name} is blocked by the test", name=name)

sys.meta_path.insert(0, Blocked())
from keras_callbacks_plus import policies

assert all(hasattr(policies, name) for name in policies.__all__)
monitor = policies.Monitor("loss", "min")
rule = policies.Patience(monitor, 0)
assert rule.update(policies.PatienceState(), 0.5, at=0)[1].improved
assert (policies.BestN(1) | policies.LatestN(1)).bind(monitor).decide([]) == []
assert policies.Trigger.parse("10 min").every == 600
ours = sorted(m for m in sys.modules if m.startswith("keras_callbacks_plus."))
print(" ".join(m.removeprefix("keras_callbacks_plus.").split(".")[0] for m in ours))
"""


def test_works_where_keras_and_numpy_cannot_be_imported():
    done = subprocess.run(
        [sys.executable, "-c", USE_WITHOUT_KERAS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == {"_version", "errors", "policies"}
