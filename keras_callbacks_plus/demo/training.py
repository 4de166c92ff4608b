"""Trains a small convolutional network on handwritten digits: an ordinary Keras script.

    python -m keras_callbacks_plus.demo.training runs/mine

Kill it whenever you like (`kill -9` will do) and type the same line again: it goes on, and ends
as if nothing had happened. `kcp demo` runs this very script, kills it, and proves that.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

import keras_callbacks_plus as kcp
from keras_callbacks_plus.demo import data
from keras_callbacks_plus.demo.files import write_arrays, write_json
from keras_callbacks_plus.demo.settings import (
    BATCH_SIZE,
    DECAY_STEPS,
    EPOCHS,
    KEPT,
    PATIENCE,
    PEAK_RATE,
    SEED,
    WARMUP_STEPS,
)

__all__ = ["build_model", "train"]


def build_model() -> Any:
    """A small convolutional network; four of its layers draw random numbers in every batch."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.RandomBrightness(0.2, value_range=(0.0, 1.0)),
            keras.layers.RandomContrast(0.3, value_range=(0.0, 1.0)),
            keras.layers.GaussianNoise(0.1),
            keras.layers.Conv2D(16, 3, padding="same", activation="relu"),
            keras.layers.Conv2D(32, 3, padding="same", activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def train(
    directory: str | os.PathLike[str], more_callbacks: Sequence[Any] = (), verbose: Any = "auto"
) -> dict[str, Any]:
    """Trains, or goes on training, in a folder.

    Args:
        directory: String or path, the folder of this run.
        more_callbacks: Callbacks to have besides the five.
        verbose: As in `fit`.

    Returns:
        What came out, which is also written to `result.json`; all variables of model and optimizer
        go to `final_state.npz`.
    """
    directory = Path(directory)
    keras.utils.set_random_seed(SEED)
    digits = data.load()
    model = build_model()

    warmup_then_cosine = kcp.schedules.Warmup(
        kcp.schedules.CosineDecay(PEAK_RATE, decay_steps=DECAY_STEPS), warmup_steps=WARMUP_STEPS
    )
    early_stopping = kcp.EarlyStopping(
        monitor="val_loss", patience=PATIENCE, restore_best_weights=True
    )
    history = model.fit(
        *digits.train,
        batch_size=BATCH_SIZE,
        epochs=EPOCHS,
        validation_data=digits.validation,
        verbose=verbose,
        callbacks=[
            # A finished run keeps its last snapshot: started again, it trains nothing.
            kcp.BackupAndRestore(directory / "backup", delete_checkpoint=False, on_inexact="raise"),
            kcp.ModelCheckpoint(
                directory / "checkpoints" / "epoch-{epoch:02d}.keras",
                monitor="val_loss",
                save_best_only=True,
                max_to_keep=KEPT,
            ),
            early_stopping,
            kcp.LearningRateScheduler(warmup_then_cosine),
            kcp.TensorBoardLogger(directory / "logs", update_freq="batch"),
            *more_callbacks,
        ],
    )

    scores = model.evaluate(*digits.test, batch_size=BATCH_SIZE, verbose=0, return_dict=True)
    result = {
        "backend": keras.backend.backend(),
        "keras": keras.__version__,
        "history": history.history,
        "epochs": history.epoch,
        "best_epoch": early_stopping.best_epoch,
        "best": early_stopping.best,
        "stopped_epoch": early_stopping.stopped_epoch if early_stopping.stop_reason else None,
        "test": scores,
    }
    write_arrays(directory / "final_state.npz", _all_variables(model))
    write_json(directory / "result.json", result)
    return result


def _all_variables(model: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Weights, states of the seed generators, and the optimizer's variables, by name."""
    weights = {id(weight) for weight in model.weights}
    groups = {
        "weights": model.weights,
        "seeds": [variable for variable in model.variables if id(variable) not in weights],
        "optimizer": model.optimizer.variables,
    }
    return {
        f"{group}/{number:03d}/{variable.path}": keras.ops.convert_to_numpy(variable.value)
        for group, variables in groups.items()
        for number, variable in enumerate(variables)
    }


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Say which folder: python -m keras_callbacks_plus.demo.training runs/mine")
    test = train(sys.argv[1])["test"]
    print(f"Accuracy on the test set: {test['accuracy']:.4f}")
