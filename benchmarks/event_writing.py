"""How fast are scalars written, and what does writing them add to a batch?

Run `python benchmarks/event_writing.py`. Peers are taken in the same run, interleaved, each in a
fresh process; compare the ratios, not times across runs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version

SCALARS = 20_000
TAGS = [f"batch_metric_{i}" for i in range(5)]
STEPS = 1000
LOGS = {"accuracy": 0.5, "loss": 0.25, "mae": 0.125}


# ------------------------------------------------------------------ scalars per second


def write_ours(folder, tags, hide_crc):
    if hide_crc:
        sys.modules.update({"google_crc32c": None, "crc32c": None})
    from keras_callbacks_plus.events import EventFileWriter
    from keras_callbacks_plus.storage.filesystem import LocalFileSystem

    started = time.perf_counter()
    writer = EventFileWriter(folder, run="a", first_step=0, file_system=LocalFileSystem())
    for step in range(SCALARS // len(tags)):
        writer.write_scalars(step, dict.fromkeys(tags, 0.5), wall_time=1.0)
    noted = time.perf_counter() - started
    writer.close()
    return time.perf_counter() - started, noted


def write_theirs(folder, tags):
    from tensorboard.compat.proto import event_pb2, summary_pb2
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(folder)
    started = time.perf_counter()
    for step in range(SCALARS // len(tags)):
        values = [summary_pb2.Summary.Value(tag=tag, simple_value=0.5) for tag in tags]
        summary = summary_pb2.Summary(value=values)
        writer.add_event(event_pb2.Event(wall_time=1.0, step=step, summary=summary))
    noted = time.perf_counter() - started
    writer.close()
    return time.perf_counter() - started, noted


# ------------------------------------------------------------------ microseconds per batch


def make_callback(kind, folder):
    import keras

    import keras_callbacks_plus as kcp

    class Empty(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            pass

    return {
        "none": list,
        "empty": lambda: [Empty()],
        "ours_epoch": lambda: [kcp.TensorBoardLogger(folder)],
        "ours_batch": lambda: [kcp.TensorBoardLogger(folder, update_freq="batch")],
        "ours_batch_no_rate": lambda: [
            kcp.TensorBoardLogger(folder, update_freq="batch", write_learning_rate=False)
        ],
        "ours_100": lambda: [kcp.TensorBoardLogger(folder, update_freq=100)],
        "keras_epoch": lambda: [keras.callbacks.TensorBoard(folder, write_graph=False)],
        "keras_batch": lambda: [
            keras.callbacks.TensorBoard(folder, update_freq="batch", write_graph=False)
        ],
    }[kind]()


def fit_with(kinds, rounds):
    """Microseconds per batch of a `fit` whose compiled step is replaced by stored logs."""
    import keras
    import numpy as np

    on_jax = keras.backend.backend() == "jax"

    class Stub(keras.Sequential):
        def make_train_function(self, *_, **__):
            self.train_function = (lambda s, _: (LOGS, s)) if on_jax else (lambda _: LOGS)

    model = Stub([keras.Input((32,)), *(keras.layers.Dense(64) for _ in range(5))])
    model.compile("adam", "mse")
    data = np.zeros((STEPS, 32), "float32"), np.zeros((STEPS, 64), "float32")
    times = {kind: [] for kind in kinds}
    for turn in range(rounds + 1):
        for kind in kinds[turn % len(kinds) :] + kinds[: turn % len(kinds)]:
            callbacks = make_callback(kind, tempfile.mkdtemp())
            clock = []

            class Watch(keras.callbacks.Callback):
                def on_epoch_begin(self, *_):
                    clock.append(time.perf_counter())  # noqa: B023 - used within this turn

                def on_epoch_end(self, *_):
                    clock.append(time.perf_counter())  # noqa: B023 - used within this turn

            model.fit(*data, batch_size=1, verbose=0, callbacks=[Watch(), *callbacks])
            times[kind].append((clock[1] - clock[0]) / STEPS * 1e6)
    return {kind: statistics.median(values[1:]) for kind, values in times.items()}


# ------------------------------------------------------------------ the report


def in_fresh_process(*arguments):
    command = [sys.executable, __file__, "--one", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(result.stdout.splitlines()[-1])


def one(kind, tags):
    folder = tempfile.mkdtemp()
    names = TAGS[: int(tags)]
    if kind == "tensorboard":
        return write_theirs(folder, names)
    return write_ours(folder, names, hide_crc=kind == "ours, tables")


def has(module):
    import importlib.util

    return importlib.util.find_spec(module) is not None


def report_throughput(rounds):
    kinds = ["tensorboard", "ours, tables"]
    if has("google_crc32c") or has("crc32c"):
        kinds.append("ours, CRC extension")
    print(
        f"\n{SCALARS:,} scalars into an event file, median of {rounds}; TensorFlow installed: "
        f"{has('tensorflow')}"
    )
    print(
        f"{'tags per step':>13}  {'writer':20} {'scalars/s':>12} {'ratio':>7} "
        f"{'us per step in the caller':>26}"
    )
    for tags in ("1", "5"):
        taken = {kind: [] for kind in kinds}
        for turn in range(rounds):
            for kind in kinds[turn % len(kinds) :] + kinds[: turn % len(kinds)]:
                taken[kind].append(in_fresh_process(kind, tags))
        base = statistics.median(total for total, _ in taken["tensorboard"])
        for kind in kinds:
            total = statistics.median(total for total, _ in taken[kind])
            noted = statistics.median(noted for _, noted in taken[kind])
            step = noted / (SCALARS / int(tags)) * 1e6
            print(
                f"{tags:>13}  {kind:20} {SCALARS / total:12,.0f} {base / total:6.1f}x {step:26.2f}"
            )


def report_batches(rounds):
    import keras

    kinds = ["none", "empty", "ours_epoch", "ours_100", "ours_batch_no_rate", "ours_batch"]
    if has("tensorflow"):
        kinds += ["keras_epoch", "keras_batch"]
    medians = fit_with(kinds, rounds)
    print(
        f"\nMicroseconds per batch of `fit`, step replaced by stored logs, median of {rounds}, "
        f"keras {keras.__version__} on {keras.backend.backend()}"
    )
    for kind, taken in medians.items():
        print(f"{kind:20} {taken:9.1f}   {taken - medians['empty']:+9.1f} to an empty callback")
    if "keras_batch" in medians:
        ours, theirs = (medians[k] - medians["empty"] for k in ("ours_batch", "keras_batch"))
        print(f"ratio keras_batch / ours_batch, of what they add: {theirs / ours:.1f}x")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one(*arguments.one)))
        return
    packages = {}
    for package in ("keras", "tensorboard", "protobuf", "google-crc32c", "crc32c"):
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            packages[package] = "not installed"
    print(platform.platform(), "python", platform.python_version(), "cores", os.cpu_count())
    print(packages)
    report_throughput(arguments.rounds)
    report_batches(arguments.rounds)


if __name__ == "__main__":
    main()
