"""The package keeps the rules of the house, and every rule can tell when it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.architecture.rules import PACKAGE, RULES, Source

ROOT = Path(__file__).parents[2] / PACKAGE
SOURCES = [
    Source(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
    for path in sorted(ROOT.rglob("*.py"))
]

# (rule, file) -> why it may. One that is no longer needed fails a test.
EXCEPTIONS = {
    ("no_sleep", "storage/filesystem.py"): (
        "no event says when another program lets go of a file that is to be replaced"
    ),
    ("files_change_in_one_place", "demo/processes.py"): (
        "what a child process prints goes to a log for a person to read; nothing depends on it"
    ),
    ("files_change_in_one_place", "_terminal.py"): (
        "it opens the null device, where what nobody reads any more is written to"
    ),
    ("files_change_in_one_place", "demo/folder.py"): (
        "as a user's program may, it removes the files that it lists as its own"
    ),
    ("files_change_in_one_place", "events/_folder.py"): (
        "an event file is appended to for as long as a run lasts; storage is a room beside this one"
    ),
}


def rule_named(name):
    return next(rule for rule in RULES if rule.__name__ == name)


def test_there_is_code_to_check():
    """Otherwise a moved folder would make every rule hold."""
    assert {"policies", "schedules", "storage", "events", "_keras", "callbacks"} <= {
        source.room for source in SOURCES
    }


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_keeps_the_rule(rule):
    """`rules.py` says what each is for."""
    broken = [str(v) for s in SOURCES for v in rule(s) if (v.rule, v.path) not in EXCEPTIONS]
    assert not broken, "\n".join(["", *broken])


@pytest.mark.parametrize(("rule", "path"), EXCEPTIONS, ids=str)
def test_an_exception_is_still_needed(rule, path):
    """An exception whose reason is gone goes too."""
    (source,) = (source for source in SOURCES if source.path == path)
    assert list(rule_named(rule)(source)), "nothing to except: take it out of EXCEPTIONS"


VIOLATIONS = [
    ("arrows_point_down", "policies/_a.py", "from keras_callbacks_plus.schedules import Constant"),
    ("arrows_point_down", "policies/_a.py", "from keras_callbacks_plus import storage"),
    ("arrows_point_down", "storage/a.py", "import keras_callbacks_plus._keras.snapshot"),
    ("arrows_point_down", "storage/a.py", "from .. import callbacks"),
    ("arrows_point_down", "storage/a.py", "from ..events.writer import MultiWriter"),
    ("arrows_point_down", "events/a.py", "def f():\n    from keras_callbacks_plus import storage"),
    ("arrows_point_down", "errors.py", "from keras_callbacks_plus import policies"),
    ("arrows_point_down", "_keras/a.py", "from keras_callbacks_plus.callbacks import X"),
    ("arrows_point_down", "_keras/a.py", "from keras_callbacks_plus.events import X"),
    ("arrows_point_down", "_keras/a.py", "from keras_callbacks_plus import ModelCheckpoint"),
    ("arrows_point_down", "callbacks/_a.py", "import keras_callbacks_plus as kcp"),
    ("arrows_point_down", "callbacks/_a.py", "import keras_callbacks_plus.cli"),
    ("arrows_point_down", "demo/a.py", "from keras_callbacks_plus._keras import compat"),
    ("arrows_point_down", "cli.py", "from keras_callbacks_plus.callbacks import ModelCheckpoint"),
    (
        "arrows_point_down",
        "policies/_a.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
        "    from keras_callbacks_plus.storage import CheckpointStore",
    ),
    (
        "arrows_point_down",
        "policies/_a.py",
        "importlib.import_module('keras_callbacks_plus.callbacks')",
    ),
    ("arrows_point_down", "new_room/a.py", "x = 1"),
    (
        "private_modules_stay_in_their_room",
        "callbacks/_a.py",
        "from keras_callbacks_plus.policies._monitor import Monitor",
    ),
    (
        "private_modules_stay_in_their_room",
        "_keras/a.py",
        "from keras_callbacks_plus.schedules import _base",
    ),
    ("third_party_is_listed", "policies/_a.py", "import numpy as np"),
    ("third_party_is_listed", "storage/a.py", "def f():\n    import h5py"),
    ("third_party_is_listed", "callbacks/_a.py", "from tensorboard.compat import proto"),
    ("keras_only_above", "schedules/_a.py", "import keras"),
    ("keras_only_above", "storage/a.py", "def f():\n    from keras import ops"),
    ("keras_only_above", "cli.py", "from keras.models import load_model"),
    ("keras_only_above", "callbacks/_a.py", "def f():\n    import tensorflow as tf"),
    ("keras_only_above", "events/a.py", "def f():\n    from torch.utils import tensorboard"),
    ("backends_are_imported_late", "_keras/a.py", "import jax.numpy as jnp"),
    ("backends_are_imported_late", "_keras/a.py", "try:\n    import torch\nexcept E:\n    pass"),
    ("private_keras_only_in_compat", "_keras/messages.py", "from keras.src.utils import io_utils"),
    ("private_keras_only_in_compat", "_keras/a.py", "import keras.src as k"),
    ("private_keras_only_in_compat", "_keras/compatible.py", "import keras.src as k"),
    ("private_keras_only_in_compat", "callbacks/_a.py", "x = keras.src.backend"),
    ("private_keras_only_in_compat", "callbacks/_a.py", "from keras import _tf_keras"),
    ("private_attributes_stay_at_home", "callbacks/_a.py", "self.model._initial_epoch = 3"),
    ("private_attributes_stay_at_home", "_keras/a.py", "rate = model.optimizer._learning_rate"),
    ("private_attributes_stay_at_home", "_keras/a.py", "getattr(model, '_jax_state', None)"),
    ("files_change_in_one_place", "storage/store.py", "os.replace(a, b)"),
    ("files_change_in_one_place", "storage/store.py", "os.fsync(descriptor)"),
    ("files_change_in_one_place", "storage/store.py", "from os import unlink"),
    ("files_change_in_one_place", "storage/store.py", "os.open(path, os.O_WRONLY | os.O_CREAT)"),
    ("files_change_in_one_place", "storage/store.py", "os.open(path, flags)"),
    ("files_change_in_one_place", "callbacks/_a.py", "open(path, 'w')"),
    ("files_change_in_one_place", "callbacks/_a.py", "open(path, mode='r+b')"),
    ("files_change_in_one_place", "callbacks/_a.py", "open(path, mode)"),
    ("files_change_in_one_place", "callbacks/_a.py", "path.open('ab')"),
    ("files_change_in_one_place", "callbacks/_a.py", "shutil.rmtree(folder)"),
    ("files_change_in_one_place", "callbacks/_a.py", "Path(name).write_text('x')"),
    ("files_change_in_one_place", "callbacks/_a.py", "(folder / name).unlink()"),
    ("files_change_in_one_place", "callbacks/_a.py", "path.replace(target)"),
    ("files_change_in_one_place", "callbacks/_a.py", "import tempfile"),
    ("layer_one_is_pure", "policies/_a.py", "import time"),
    ("layer_one_is_pure", "schedules/_a.py", "from random import random"),
    ("no_pickle", "storage/a.py", "import pickle"),
    ("no_long_files", "storage/a.py", "x = 1\n" * 401),
    ("no_sleep", "storage/background.py", "time.sleep(0.1)"),
    ("no_sleep", "storage/background.py", "from time import sleep\nsleep(1)"),
    ("no_bare_except", "events/a.py", "try:\n    f()\nexcept:\n    raise"),
    ("no_print", "callbacks/_a.py", "print('saved')"),
]


@pytest.mark.parametrize(("rule", "path", "text"), VIOLATIONS)
def test_a_rule_finds_a_violation(rule, path, text):
    """A rule that found nothing anywhere would hold for ever."""
    found = list(rule_named(rule)(Source(path, text)))
    assert [(v.rule, v.path) for v in found] == [(rule, path)], found


def test_every_rule_has_a_violation_to_find():
    """A new rule comes with the text that breaks it."""
    assert {name for name, _, _ in VIOLATIONS} == {rule.__name__ for rule in RULES}


ALLOWED = [
    ("policies/_a.py", "from keras_callbacks_plus.errors import InvalidArgumentError"),
    ("policies/_a.py", "from keras_callbacks_plus.policies._monitor import Monitor"),
    ("policies/_a.py", "import math\nfrom dataclasses import dataclass, replace\nreplace(x, y=1)"),
    ("storage/filesystem.py", "os.replace(a, b)\nos.fsync(d)\nopen(p, 'wb')\nos.open(p, flags)"),
    (
        "storage/a.py",
        "open(path)\nopen(p, 'rb')\nos.open(p, os.O_RDONLY)\ntext.replace(a, b)",
    ),
    ("_keras/compat/a.py", "from keras.src.utils import io_utils\nmodel._initial_epoch = 0"),
    ("_keras/a.py", "def f():\n    import jax"),
    ("callbacks/_a.py", "import keras\nfrom keras_callbacks_plus._keras import compat"),
    ("callbacks/_a.py", "class A:\n    def __init__(self):\n        self._b = 1\n\nother._b"),
    ("demo/a.py", "import keras\nimport keras_callbacks_plus as kcp\nprint(1)\nos._exit(1)"),
]


@pytest.mark.parametrize(("path", "text"), ALLOWED)
def test_what_is_allowed_is_not_reported(path, text):
    """The other side of the line."""
    assert [str(v) for rule in RULES for v in rule(Source(path, text))] == []
