"""What importing the package brings with it, seen from a fresh process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import keras_callbacks_plus

ROOT = Path(keras_callbacks_plus.__file__).parents[1]

BLOCK = """
import importlib.abc, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"keras", "tensorflow", "jax", "torch"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
"""


def run(code):
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,  # `-c` puts the working folder on the path
        env={**os.environ, "PYTHONPATH": path},
    )


@pytest.mark.parametrize(
    "room", ["errors", "policies", "schedules", "storage", "events", "reading"]
)
def test_the_lower_layers_import_where_keras_is_not_installed(room):
    """Layers 1 and 2 decide, compute and write without Keras."""
    done = run(f"{BLOCK}\nimport keras_callbacks_plus.{room}")
    assert done.returncode == 0, done.stderr


def test_a_schedule_and_a_policy_work_where_keras_is_not_installed():
    """Not only the import."""
    done = run(
        f"{BLOCK}\n"
        "import keras_callbacks_plus as kcp\n"
        "decay = kcp.schedules.CosineDecay(1.0, decay_steps=10)\n"
        "print(kcp.schedules.Warmup(decay, warmup_steps=4)(2), kcp.policies.BestN(3).n)"
    )
    assert (done.returncode, done.stdout) == (0, "0.5 3\n"), done.stderr


def test_the_callbacks_say_what_to_do_where_keras_is_not_installed():
    """One error, of a class of ours that is an ImportError too."""
    done = run(
        f"{BLOCK}\n"
        "import keras_callbacks_plus as kcp\n"
        "try:\n"
        "    kcp.ModelCheckpoint\n"
        "except kcp.errors.UnsupportedKerasError as error:\n"
        "    print(isinstance(error, ImportError), error)"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("True Keras is not installed. Install")


def test_importing_the_package_imports_neither_keras_nor_a_backend_and_prints_nothing():
    """The callbacks resolve on first use."""
    done = run(
        "import sys, keras_callbacks_plus\n"
        "heavy = {'keras', 'tensorflow', 'jax', 'torch', 'tensorboard', 'matplotlib'}\n"
        "sys.exit(repr(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_public_name_is_listed():
    """`dir()` shows what `__all__` promises, before anything was resolved."""
    assert set(keras_callbacks_plus.__all__) <= set(dir(keras_callbacks_plus))


def test_an_unknown_name_is_an_attribute_error():
    """The lazy lookup does not hide a typing mistake."""
    with pytest.raises(AttributeError, match="no attribute 'ModelCheckpiont'"):
        keras_callbacks_plus.ModelCheckpiont  # noqa: B018 - the access is what is tested


def test_every_name_that_a_text_tells_users_to_type_exists():
    """`kcp.name` in messages, docstrings and documentation, whatever is loaded by chance."""
    root = Path(keras_callbacks_plus.__file__).parent
    texts = [*root.rglob("*.py"), *Path(__file__).parents[2].glob("docs/**/*.md")]
    named = {
        (path.name, name)
        for path in texts
        for name in re.findall(r"\bkcp\.(\w+)", path.read_text(encoding="utf-8"))
    }
    assert len(named) > 20
    assert {pair for pair in named if pair[1] not in keras_callbacks_plus.__all__} == set()
