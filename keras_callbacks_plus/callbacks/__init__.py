"""The callbacks: thin objects that carry values to a decision and its verdict to the world."""

from __future__ import annotations

from keras_callbacks_plus._keras import compat as _compat

_compat.require_keras()

from keras_callbacks_plus._keras.keras_schedule import (  # noqa: E402 - after the version check
    as_keras_schedule as as_keras_schedule,
)
from keras_callbacks_plus._keras.resumable_data import (  # noqa: E402 - after the version check
    resumable as resumable,
)
from keras_callbacks_plus.callbacks._backup_and_restore import (  # noqa: E402 - after the version check
    BackupAndRestore as BackupAndRestore,
)
from keras_callbacks_plus.callbacks._base import (  # noqa: E402 - after the version check
    StatefulCallback as StatefulCallback,
)
from keras_callbacks_plus.callbacks._early_stopping import (  # noqa: E402 - after the version check
    EarlyStopping as EarlyStopping,
)
from keras_callbacks_plus.callbacks._learning_rate_scheduler import (  # noqa: E402 - after the version check
    LearningRateScheduler as LearningRateScheduler,
)
from keras_callbacks_plus.callbacks._model_checkpoint import (  # noqa: E402 - after the version check
    ModelCheckpoint as ModelCheckpoint,
)
from keras_callbacks_plus.callbacks._tensorboard_logger import (  # noqa: E402 - after the version check
    TensorBoardLogger as TensorBoardLogger,
)
