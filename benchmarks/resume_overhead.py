"""What does it cost to be able to go on at any batch?

Run `KERAS_BACKEND=jax python benchmarks/resume_overhead.py`. Two questions:

1. An epoch of `kcp.resumable(x, y)` beside one of the plain arrays.
2. `BackupAndRestore(save_freq="1 min")` beside no callback, on steps of about 5 ms: from what its
   handler adds to every batch, and from what one snapshot holds up.

Both are taken in the same process, interleaved; compare the ratios, not times across runs.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time

import keras
import numpy as np

import keras_callbacks_plus as kcp


class EpochTimes(keras.callbacks.Callback):
    """Seconds from the beginning to the end of each epoch."""

    def __init__(self):
        super().__init__()
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self.started)


def model_of(width):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(width, "relu"),
            keras.layers.Dense(width, "relu"),
            keras.layers.Dense(1),
        ]
    )
    model.compile("adam", "mse")
    return model


def epoch_seconds(model, data, epochs, callbacks=(), **fit):
    """Median of the epochs but the first, which compiles."""
    times = EpochTimes()
    model.fit(*data, epochs=epochs + 1, verbose=0, callbacks=[*callbacks, times], **fit)
    return statistics.median(times.seconds[1:])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200, help="batches in an epoch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--width", type=int, default=1024, help="of the layers: about 5 ms a step")
    arguments = parser.parse_args()
    batch = 64
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch * arguments.steps, 64)).astype("float32")
    y = x.sum(1, keepdims=True)
    model = model_of(arguments.width)

    ratios, step = [], None
    for _ in range(arguments.rounds):
        plain = epoch_seconds(model, (x, y), 3, batch_size=batch)
        ours = epoch_seconds(model, (kcp.resumable(x, y, batch_size=batch, seed=1),), 3)
        ratios.append(ours / plain)
        step = plain / arguments.steps

    handlers, stalls = [], []
    for _ in range(arguments.rounds):
        plain = epoch_seconds(model, (x, y), 3, batch_size=batch)
        with tempfile.TemporaryDirectory() as folder:
            backup = kcp.BackupAndRestore(folder, save_freq="1000 h", on_inexact="warn")
            watched = epoch_seconds(model, (x, y), 3, [backup], batch_size=batch)
        with tempfile.TemporaryDirectory() as folder:
            backup = kcp.BackupAndRestore(folder, save_freq=arguments.steps // 4)
            saving = epoch_seconds(model, (x, y), 3, [backup], batch_size=batch)
        handlers.append(watched / plain - 1)
        stalls.append((saving - watched) / 4)
    stall = max(0.0, statistics.median(stalls))
    print(
        json.dumps(
            {
                "machine": f"{platform.processor() or platform.machine()}, {platform.system()}",
                "keras": f"{keras.__version__} on {keras.backend.backend()}",
                "step_ms": round(1e3 * step, 2),
                "resumable_epoch_over_arrays": round(statistics.median(ratios), 3),
                "handlers_share_of_the_run": round(statistics.median(handlers), 4),
                "snapshot_stall_ms": round(1e3 * stall, 1),
                "stall_share_at_one_a_minute": round(stall / 60, 5),
                "model_and_optimizer_mib": round(
                    sum(
                        np.prod(v.shape) * 4 for v in [*model.variables, *model.optimizer.variables]
                    )
                    / 2**20,
                    1,
                ),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
