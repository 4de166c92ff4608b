"""Layer 1 stands alone: no Keras, no backend, no NumPy, no Matplotlib."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys

BLOCKED = {"keras", "tensorflow", "jax", "torch", "numpy", "matplotlib"}

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Block())
from keras_callbacks_plus.schedules import CosineDecay, Warmup, deserialize, join, serialize
schedule = join([Warmup(CosineDecay(0.5, 8), 2), CosineDecay(0.25, 4)], [10]).clip(0.0, 1.0) * 2
assert deserialize(serialize(schedule)) == schedule
print([schedule(step) for step in (0, 1, 2, 10)])
assert not BLOCKED & set(sys.modules), BLOCKED & set(sys.modules)
"""


def test_schedules_import_and_compute_with_everything_else_blocked():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.stdout.strip() == "[0.0, 0.5, 1.0, 0.5]"
