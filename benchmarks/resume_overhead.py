"""What does it cost to be able to go on at any batch?

Run `KERAS_BACKEND=jax python benchmarks/resume_overhead.py`. Four questions:

1. An epoch of `kcp.resumable(x, y)` beside one of the plain arrays.
2. `BackupAndRestore(save_freq="1 min")` on steps of 5 ms: from what its handler adds to a batch,
   taken on a model so small that it shows, and from what one snapshot holds up.
3. How long one snapshot of a large model holds up `fit`, beside one copy of as many bytes.
4. How fast it is read back, checked, beside a plain read of the same file.

Each is taken in one process, interleaved; compare the ratios, not times across runs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time

import keras
import numpy as np
from checkpoint_stall import bytes_of, data_for, make_model, settle

import keras_callbacks_plus as kcp
from keras_callbacks_plus.storage import read_container


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


class Gaps:
    """Two callbacks around the others: what passes between the end of a batch and the next one."""

    def __init__(self, backup, target, source):
        gaps = self
        self.saving, self.idle, self.copies, self._ended = [], [], [], None

        class First(keras.callbacks.Callback):
            def on_train_batch_begin(self, batch, logs=None):
                now = time.perf_counter()
                if gaps._ended is not None and batch:
                    (gaps.idle if batch % 2 else gaps.saving).append(now - gaps._ended)
                backup.wait_until_finished()  # so that no snapshot waits for the one before
                began = time.perf_counter()
                np.copyto(target, source)
                gaps.copies.append(time.perf_counter() - began)

        class Last(keras.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                settle(self.model)
                gaps._ended = time.perf_counter()

        self.callbacks = [First(), backup, Last()]


def measure_large(parameters, rounds):
    """Seconds: of a snapshot's stall, of a copy, of a checked and of a plain read."""
    model = make_model(parameters)
    model.fit(*data_for(model), batch_size=8, verbose=0)  # builds the optimizer
    size = bytes_of(model)
    source, target = np.ones(size, np.uint8), np.ones(size, np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        backup = kcp.BackupAndRestore(folder, save_freq=2, delete_checkpoint=False)
        gaps = Gaps(backup, target, source)
        data = data_for(model, steps=4 * rounds)
        model.fit(*data, batch_size=8, shuffle=False, verbose=0, callbacks=gaps.callbacks)
        newest = max(
            (entry for entry in os.scandir(folder) if entry.name.endswith(".kcp")),
            key=lambda entry: entry.stat().st_mtime_ns,
        ).path
        plain, checked = [], []
        for _ in range(rounds + 1):
            began = time.perf_counter()
            read_plainly(newest)
            middle = time.perf_counter()
            read_container(newest)
            plain.append(middle - began)
            checked.append(time.perf_counter() - middle)
    return {
        "megabytes": round(size / 1e6),
        "copy_ms": _ms(gaps.copies[3:]),
        "stall_ms": _ms(gaps.saving[1:]),
        "stall_over_copy": round(
            (statistics.median(gaps.saving[1:]) - statistics.median(gaps.idle[1:]))
            / statistics.median(gaps.copies[3:]),
            2,
        ),
        "gap_without_a_snapshot_ms": _ms(gaps.idle[1:]),
        "plain_read_ms": _ms(plain[1:]),
        "checked_read_ms": _ms(checked[1:]),
        "speed_of_checked_over_plain": round(
            statistics.median(plain[1:]) / statistics.median(checked[1:]), 2
        ),
    }


def read_plainly(path):
    """All bytes of a file into memory that was not used before."""
    with open(path, "rb", buffering=0) as file:
        view = np.empty(os.path.getsize(path), np.uint8).data
        done = 0
        while done < len(view):
            done += file.readinto(view[done : done + (8 << 20)])


def _ms(seconds):
    values = [1e3 * s for s in seconds]
    return f"{statistics.median(values):.1f} ({min(values):.1f}-{max(values):.1f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200, help="batches in an epoch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--width", type=int, default=1024, help="of the layers: about 5 ms a step")
    parser.add_argument("--params", type=int, default=25_000_000, help="of the large model")
    arguments = parser.parse_args()
    large = measure_large(arguments.params, arguments.rounds)
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

    small, handlers = model_of(8), []
    for _ in range(5 * arguments.rounds):
        plain = epoch_seconds(small, (x, y), 3, batch_size=batch)
        with tempfile.TemporaryDirectory() as folder:
            backup = kcp.BackupAndRestore(folder, save_freq="1000 h", on_inexact="warn")
            watched = epoch_seconds(small, (x, y), 3, [backup], batch_size=batch)
        handlers.append((watched - plain) / arguments.steps)
    handler = statistics.median(handlers)

    stalls = []
    for _ in range(arguments.rounds):
        plain = epoch_seconds(model, (x, y), 3, batch_size=batch)
        with tempfile.TemporaryDirectory() as folder:
            backup = kcp.BackupAndRestore(folder, save_freq=arguments.steps // 4)
            saving = epoch_seconds(model, (x, y), 3, [backup], batch_size=batch)
        stalls.append((saving - plain) / 4)
    stall = max(0.0, statistics.median(stalls))
    print(
        json.dumps(
            {
                "machine": f"{platform.processor() or platform.machine()}, {platform.system()}",
                "keras": f"{keras.__version__} on {keras.backend.backend()}",
                "step_ms": round(1e3 * step, 2),
                "resumable_epoch_over_arrays": round(statistics.median(ratios), 3),
                "handler_us_a_batch": round(1e6 * handler, 1),
                "quartiles": [round(1e6 * q, 1) for q in statistics.quantiles(handlers, n=4)],
                "snapshot_stall_ms": round(1e3 * stall, 1),
                "share_of_the_run": round(handler / 0.005 + stall / 60, 5),
                "model_and_optimizer_mib": round(
                    sum(
                        np.prod(v.shape) * 4 for v in [*model.variables, *model.optimizer.variables]
                    )
                    / 2**20,
                    1,
                ),
                "large_model": large,
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
