"""Callbacks for Keras with guarantees.

The callbacks resolve on first use, so that `keras_callbacks_plus.policies`, `.schedules` and
`.storage` can be imported, and used, where Keras is not installed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from keras_callbacks_plus._version import __version__ as __version__

if TYPE_CHECKING:
    from keras_callbacks_plus import errors as errors
    from keras_callbacks_plus import policies as policies
    from keras_callbacks_plus import schedules as schedules
    from keras_callbacks_plus.callbacks import BackupAndRestore as BackupAndRestore
    from keras_callbacks_plus.callbacks import EarlyStopping as EarlyStopping
    from keras_callbacks_plus.callbacks import LearningRateScheduler as LearningRateScheduler
    from keras_callbacks_plus.callbacks import ModelCheckpoint as ModelCheckpoint
    from keras_callbacks_plus.callbacks import StatefulCallback as StatefulCallback
    from keras_callbacks_plus.callbacks import TensorBoardLogger as TensorBoardLogger
    from keras_callbacks_plus.callbacks import as_keras_schedule as as_keras_schedule
    from keras_callbacks_plus.callbacks import resumable as resumable
    from keras_callbacks_plus.reading import Checkpoint as Checkpoint
    from keras_callbacks_plus.reading import Checkpoints as Checkpoints
    from keras_callbacks_plus.reading import checkpoints as checkpoints

__all__ = [
    "BackupAndRestore",
    "Checkpoint",
    "Checkpoints",
    "EarlyStopping",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "StatefulCallback",
    "TensorBoardLogger",
    "as_keras_schedule",
    "checkpoints",
    "errors",
    "policies",
    "resumable",
    "schedules",
    "__version__",
]

_MODULES = ("errors", "policies", "schedules")
_READING = ("Checkpoint", "Checkpoints", "checkpoints")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _READING:
        return getattr(importlib.import_module(f"{__name__}.reading"), name)
    if name in __all__:
        return getattr(importlib.import_module(f"{__name__}.callbacks"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
