"""The built wheel, installed with nothing but what it asks for; `tox -e package` runs this."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

import keras_callbacks_plus

pytestmark = pytest.mark.wheel
ROOT = Path(__file__).parents[2]

# Keras imports TensorFlow by itself where it is installed: in `set_random_seed`, and when it saves
# a model. So what counts is who asks for it.
WATCH = """
import importlib.abc, sys

class Watch(importlib.abc.MetaPathFinder):
    importers = set()

    def find_spec(self, name, path=None, target=None):
        if name in {"tensorflow", "torch"}:
            frame = sys._getframe(1)
            while "importlib" in frame.f_code.co_filename:
                frame = frame.f_back
            self.importers.add(frame.f_code.co_filename)

sys.meta_path.insert(0, Watch())
"""

FIT = """
import json, os
import keras
import numpy as np
import keras_callbacks_plus as kcp

folder = sys.argv[1]
keras.utils.set_random_seed(1)
model = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.1), keras.layers.Dense(1)])
model.compile("adam", "mse")
x = np.random.default_rng(0).random((64, 4)).astype("float32")
schedule = kcp.schedules.Warmup(kcp.schedules.CosineDecay(0.1, decay_steps=8), warmup_steps=2)
stop = kcp.EarlyStopping(monitor="loss", patience=2, restore_best_weights=True)
history = model.fit(
    x, x.sum(1), epochs=3, verbose=0,
    callbacks=[
        kcp.BackupAndRestore(os.path.join(folder, "backup")),
        kcp.ModelCheckpoint(
            os.path.join(folder, "{epoch:02d}.keras"), monitor="loss",
            save_best_only=True, max_to_keep=1,
        ),
        stop,
        kcp.LearningRateScheduler(schedule),
        kcp.TensorBoardLogger(os.path.join(folder, "logs")),
    ],
)
print(json.dumps({
    "package": kcp.__file__,
    "backend": keras.backend.backend(),
    "loss": history.history["loss"],
    "best": stop.best,
    "files": sorted(name for name in os.listdir(folder) if name.endswith(".keras")),
    "events": [name for _, _, names in os.walk(folder) for name in names if "tfevents" in name],
    "importers": sorted(Watch.importers),
}))
"""

CHARTS_ONLY = """
import keras
import numpy as np
import keras_callbacks_plus as kcp

model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
model.compile("adam", "mse")
charts = kcp.TensorBoardLogger(sys.argv[1], update_freq="batch")
model.fit(np.ones((8, 4)), np.ones(8), epochs=2, verbose=0, callbacks=[charts])
sys.exit(repr(Watch.importers) if Watch.importers else 0)
"""


def distribution():
    return importlib.metadata.distribution("keras-callbacks-plus")


def test_what_is_tested_is_the_wheel():
    """Not the tree that this file lies in."""
    assert ROOT / "keras_callbacks_plus" not in Path(keras_callbacks_plus.__file__).parents
    assert str(distribution().version) == keras_callbacks_plus.__version__


def test_the_wheel_holds_the_package_and_its_license_and_nothing_else():
    """No tests and no documentation; the marker that type checkers look for."""
    files = {str(file) for file in distribution().files or ()}
    assert "keras_callbacks_plus/py.typed" in files
    assert any(file.endswith(".dist-info/licenses/LICENSE") for file in files)
    tops = {file.split("/")[0] for file in files if not file.startswith("..")}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"keras_callbacks_plus"}


def test_what_the_wheel_asks_for():
    """Keras, NumPy and TensorBoard; everything else is an extra."""
    needed = [line for line in distribution().requires or () if "extra ==" not in line]
    assert sorted(needed) == [
        "keras>=3.10",
        "numpy>=1.26",
        "tensorboard>=2.16",
        "zlib-ng>=0.5",
    ]
    assert distribution().metadata["License-Expression"] == "Apache-2.0"
    assert distribution().metadata["Requires-Python"] == ">=3.10"


def run(code, folder):
    return subprocess.run(
        [sys.executable, "-c", WATCH + code, str(folder)],
        cwd=folder,  # `-c` puts the working folder on the path, and ours holds the tree
        capture_output=True,
        text=True,
        check=False,
    )


def test_charts_are_written_without_tensorflow(tmp_path):
    """Although it is installed here, nobody imports it; in a process of its own, on JAX."""
    assert importlib.util.find_spec("tensorflow") is not None
    done = run(CHARTS_ONLY, tmp_path)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.rglob("*tfevents*"))


def test_a_fit_with_all_callbacks(tmp_path):
    """The smoke test; if somebody asks for another backend, then Keras does."""
    done = run(FIT, tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["package"] == keras_callbacks_plus.__file__
    assert found["backend"] == "jax"
    assert found["best"] == min(found["loss"])
    assert len(found["loss"]) == 3
    assert found["files"] == [f"{found['loss'].index(found['best']) + 1:02d}.keras"]
    assert found["events"]
    ours = Path(keras_callbacks_plus.__file__).parent
    keras_files = ours.with_name("keras")
    assert [name for name in found["importers"] if keras_files not in Path(name).parents] == []


def test_the_command_is_installed():
    """And answers without Keras's help."""
    command = Path(sys.executable).with_name("kcp")
    done = subprocess.run([command, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "demo" in done.stdout
