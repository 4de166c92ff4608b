"""How long does a checkpoint hold up `fit`, what does it cost the steps, and how fast is it on disk?

Run `python benchmarks/checkpoint_stall.py`: one table for each backend that is installed, each
measured in a process of its own. Peers and controls are taken in the same run, interleaved, in
another order in every round; compare the ratios, not times across runs.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import functools
import gc
import importlib.util
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from importlib.metadata import PackageNotFoundError, version

BACKENDS = {"jax": "jax", "tensorflow": "tensorflow", "torch": "torch"}
COPIES = {"jax": 1.3, "tensorflow": 1.3, "torch": 1.5}  # stall / memcpy, at most
STEPS = 2  # in an epoch
EPOCHS = 3  # in a `fit`, of which the first save takes memory that is not warm yet
CHUNK = 4 << 20
NO_CALLBACK = "no callback"  # the control for the memory: how much a peak differs by itself
WAYS = {
    "memcpy into warm memory": ("memcpy", ""),
    "kcp .weights.h5": ("kcp", ".weights.h5"),
    "kcp .keras": ("kcp", ".keras"),
    "kcp .weights.h5, copy-on-write": ("kcp cow", ".weights.h5"),
    "kcp .keras, copy-on-write": ("kcp cow", ".keras"),
    "keras ModelCheckpoint .weights.h5": ("keras", ".weights.h5"),
    "keras ModelCheckpoint .keras": ("keras", ".keras"),
    "keras OrbaxCheckpoint, background": ("orbax", ""),
}


# ------------------------------------------------------------------ the model and its state


def make_model(parameters):
    import keras

    layers = min(43, max(2, parameters // 10_000))
    width = max(4, round((parameters / layers) ** 0.5))
    model = keras.Sequential(
        [keras.Input((width,)), *(keras.layers.Dense(width) for _ in range(layers))]
    )
    model.compile("adam", "mse", jit_compile=False if keras.backend.backend() != "jax" else "auto")
    return model


def data_for(model, steps=STEPS):
    import numpy as np

    shape = (8 * steps, model.input_shape[-1])
    return np.full(shape, 0.01, "float32"), np.zeros(shape, "float32")


def variables_of(model):
    return [*model.variables, *model.optimizer.variables]


def bytes_of(model):
    import numpy as np

    return sum(int(np.prod(v.shape)) * np.dtype(v.dtype).itemsize for v in variables_of(model))


def import_for_saving(model):
    """Has Keras import TensorFlow, if it is installed, which it does when it first saves a model."""
    import keras

    keras.saving.serialize_keras_object(model)


def settle(model):
    """Waits for what the step has started: JAX returns before it is done."""
    import keras

    if keras.backend.backend() == "jax":
        import jax

        jax.block_until_ready([v.value for v in variables_of(model)])


# ------------------------------------------------------------------ the stall


class Clock:
    """Two callbacks around the measured one: what an epoch's end and each step take."""

    def __init__(self, measured):
        import keras

        clock = self
        self.stalls, self.steps, self._before = [], [], 0.0

        class First(keras.callbacks.Callback):
            def on_train_batch_begin(self, batch, logs=None):
                if batch == STEPS - 1 and hasattr(measured, "wait_until_finished"):
                    # so that no save waits for the one before; a step comes before each, as always
                    measured.wait_until_finished()
                clock._before = time.perf_counter()

            def on_train_batch_end(self, batch, logs=None):
                settle(self.model)
                clock.steps.append(time.perf_counter() - clock._before)

            def on_epoch_end(self, epoch, logs=None):
                clock._before = time.perf_counter()

        class Last(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                clock.stalls.append(time.perf_counter() - clock._before)

        self.callbacks = [First(), *([measured] if measured is not None else []), Last()]


def make_callback(way, folder, model):
    import keras
    import numpy as np

    import keras_callbacks_plus as kcp
    from keras_callbacks_plus._keras import host_view
    from keras_callbacks_plus._keras.model_files import ModelFileWriter

    kind, suffix = WAYS[way]
    path = os.path.join(folder, "model" + suffix)
    weights_only = suffix == ".weights.h5"
    if kind == "memcpy":
        source = np.ones(bytes_of(model), np.uint8)
        target = np.zeros_like(source)
        target.fill(1)

        class Copy(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                np.copyto(target, source)

        return Copy()
    if kind == "keras":
        return keras.callbacks.ModelCheckpoint(path, save_weights_only=weights_only)
    if kind == "orbax":
        return keras.callbacks.OrbaxCheckpoint(folder, save_on_background=True)
    if kind != "kcp cow":
        return kcp.ModelCheckpoint(path, save_weights_only=weights_only)
    if not host_view.views_survive_training():
        return None

    class CopyOnWrite(kcp.ModelCheckpoint):  # which the callback has no argument for
        def on_train_begin(self, logs=None):
            super().on_train_begin(logs)
            if self._series._files is None:
                files = ModelFileWriter(model, weights_only=weights_only, copy_on_write=True)
                self._series._files = files

    return CopyOnWrite(path, save_weights_only=weights_only)


def has(module):
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its parent is missing
        return False


def measure_stalls(model, rounds):
    data = data_for(model)
    ways = [w for w in WAYS if WAYS[w][0] != "orbax" or has("orbax.checkpoint")]
    results = {}
    with contextlib.ExitStack() as stack:
        callbacks = {}
        for way in ways:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            callbacks[way] = make_callback(way, folder, model)
        ways = [way for way in ways if callbacks[way] is not None]
        for way in ways:
            results[way] = {"stall": [], "next": [], "whole": []}
        for turn in range(rounds + 1):
            for way in rotated(ways, turn):
                gc.collect()
                if WAYS[way][0] == "orbax":  # which ends with the fit
                    folder = stack.enter_context(tempfile.TemporaryDirectory())
                    callbacks[way] = make_callback(way, folder, model)
                clock = Clock(callbacks[way])
                began = time.perf_counter()
                model.fit(
                    *data,
                    batch_size=8,
                    shuffle=False,
                    verbose=0,
                    initial_epoch=EPOCHS * turn,
                    epochs=EPOCHS * (turn + 1),
                    callbacks=clock.callbacks,
                )
                if turn == 0:
                    results[way]["first"] = clock.stalls[0]
                    continue
                results[way]["whole"].append(time.perf_counter() - began)
                results[way]["stall"] += clock.stalls[1:]
                results[way]["next"].append(clock.steps[2 * STEPS])
    return results


def rotated(items, turn):
    turn %= len(items)
    order = items[turn:] + items[:turn]
    return order if turn % 2 == 0 else order[::-1]


# ------------------------------------------------------------------ the steps meanwhile


def measure_steps(model, rounds, phase):
    """Seconds per step with nothing beside it, with a thread that copies, and with one that writes.

    And how long a file takes from the beginning of its writing until it is durable meanwhile.
    """
    import keras
    import numpy as np

    from keras_callbacks_plus._keras.model_files import ModelFileWriter
    from keras_callbacks_plus.storage import BackgroundWriter

    source = np.ones(max(bytes_of(model), 1), np.uint8)
    target = np.ones_like(source)
    times = {"nothing": [], "memcpy": [], ".weights.h5": [], ".keras": []}
    durable = {".weights.h5": [], ".keras": []}
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        payloads = {}
        for suffix in durable:
            writer = ModelFileWriter(model, weights_only=suffix == ".weights.h5")
            payloads[suffix] = stack.enter_context(writer.capture())

        def copy(stop):
            while not stop.is_set():
                np.copyto(target, source)

        def write(suffix, writer, stop):
            while not stop.is_set():
                began = time.perf_counter()
                write_ours(folder, suffix, writer.unhurried(payloads[suffix]))
                if not stop.is_set():  # from then on it is waited for, and hurries
                    durable[suffix].append(time.perf_counter() - began)

        class Phases(keras.callbacks.Callback):
            def on_train_begin(self, logs=None):
                self.plan = iter([k for turn in range(rounds) for k in rotated(list(times), turn)])
                self.stop, self.thread = threading.Event(), None
                self.writer = None
                self.skip, self.began = 1, time.perf_counter()
                self.kind, self.taken, self.files = "nothing", None, 0

            def on_train_batch_end(self, batch, logs=None):
                settle(self.model)
                if self.writer is not None:
                    self.writer.raise_if_failed()
                now = time.perf_counter()
                if self.skip:  # the step in which the work began
                    self.skip -= 1
                elif self.taken is not None:
                    self.taken.append(now - self.last)
                if self.taken is None or (
                    now - self.began > phase and len(self.taken) >= 3 and self.has_written()
                ):
                    self.next_phase()
                self.last = time.perf_counter()

            def has_written(self):
                """Whether there was a file, or is to be none: it takes longer than the phase."""
                return len(durable.get(self.kind, ())) > self.files or self.writer is None

            def next_phase(self):
                self.finish()
                self.kind = next(self.plan, None)
                if self.kind is None:
                    self.model.stop_training = True
                    return
                self.taken, self.skip, self.began = [], 1, time.perf_counter()
                self.files = len(durable.get(self.kind, ()))
                self.stop = threading.Event()
                if self.kind == "memcpy":
                    self.thread = threading.Thread(target=copy, args=(self.stop,))
                    self.thread.start()
                elif (
                    self.kind != "nothing"
                ):  # with the priority and pace that the callback gives it
                    self.writer = BackgroundWriter("the benchmark's files")
                    self.writer._pace._began -= 600.0  # as if it saved every ten minutes
                    self.writer.submit(functools.partial(write, self.kind, self.writer, self.stop))

            def finish(self):
                self.stop.set()
                if self.thread is not None:
                    self.thread.join()
                    self.thread = None
                if self.writer is not None:
                    self.writer.wait_until_finished()
                    self.writer = None
                if self.taken:
                    times[self.kind].append(statistics.median(self.taken))
                self.taken = None

            def on_train_end(self, logs=None):
                self.finish()

        inputs, targets = data_for(model)
        batches = itertools.repeat((inputs[:8], targets[:8]))
        model.fit(
            (pair for pair in batches),
            steps_per_epoch=10**6,
            epochs=1,
            verbose=0,
            callbacks=[Phases()],
        )
    return times, durable


# ------------------------------------------------------------------ the disk


def write_ours(folder, suffix, payload):
    from keras_callbacks_plus.storage import CheckpointStore

    with CheckpointStore(folder).transaction() as transaction:
        transaction.commit(
            "model" + suffix,
            payload,
            series="model" + suffix,
            kind="model",
            epoch=0,
            batch=None,
            step=0,
            metrics={},
        )


def write_plainly(path, data):
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    for start in range(0, len(data), CHUNK):
        os.write(descriptor, data[start : start + CHUNK])
    os.fsync(descriptor)
    os.close(descriptor)


def measure_writes(model, rounds):
    import numpy as np

    from keras_callbacks_plus._keras.model_files import ModelFileWriter

    data = memoryview(np.random.default_rng(0).bytes(bytes_of(model)))
    times = {"plain": [], ".weights.h5": [], ".keras": []}
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        payloads = {}
        for suffix in (".weights.h5", ".keras"):
            writer = ModelFileWriter(model, weights_only=suffix == ".weights.h5")
            payloads[suffix] = stack.enter_context(writer.capture())
        for turn in range(rounds + 1):
            for kind in rotated(list(times), turn):
                for name in os.listdir(folder):
                    os.unlink(os.path.join(folder, name))
                began = time.perf_counter()
                if kind == "plain":
                    write_plainly(os.path.join(folder, "plain"), data)
                else:
                    write_ours(folder, kind, payloads[kind])
                if turn:
                    times[kind].append(time.perf_counter() - began)
    return times


# ------------------------------------------------------------------ the memory


def high_water(reset=False):
    """The most memory this process has had, in bytes, since the last reset; Linux only."""
    if reset:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))


def trim():
    """Gives freed memory back, so that a peak is not one of what was freed before."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def measure_memory(parameters, way):
    """Bytes above the peak of a `fit` without the callback: a process for each way, and no warm-up."""
    model = make_model(parameters)
    import_for_saving(model)
    data = data_for(model)
    with tempfile.TemporaryDirectory() as folder:
        peaks = []
        callback = make_callback(way, folder, model) if way in WAYS else None
        for measured in ([], [], [callback] if callback else []):
            trim()
            high_water(reset=True)
            clock = Clock(None)
            clock.callbacks[1:1] = measured
            model.fit(
                *data,
                batch_size=8,
                shuffle=False,
                verbose=0,
                epochs=12,  # as the peak differs from step to step, too
                callbacks=clock.callbacks,
            )
            peaks.append(high_water())
    return {"state": bytes_of(model), "extra": peaks[2] - peaks[1]}


# ------------------------------------------------------------------ one backend


def child(arguments):
    if arguments.memory:
        return measure_memory(arguments.params, arguments.memory)
    import keras

    model = make_model(arguments.params)
    import_for_saving(model)
    model.fit(*data_for(model), batch_size=8, verbose=0)
    stalls = measure_stalls(model, arguments.rounds)
    writes = measure_writes(model, arguments.rounds)
    steps, durable = measure_steps(model, arguments.rounds, arguments.phase)
    return {
        "backend": keras.backend.backend(),
        "parameters": model.count_params(),
        "variables": len(variables_of(model)),
        "bytes": bytes_of(model),
        "stalls": stalls,
        "writes": writes,
        "steps": steps,
        "durable": durable,
    }


def run_child(backend, *flags):
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    environment["PYTHONPATH"] = os.pathsep.join(
        part for part in (here, environment.get("PYTHONPATH")) if part
    )
    command = [sys.executable, os.path.abspath(__file__), "--child", *flags]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed on {backend}:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(backend, arguments):
    flags = [f"--{name}={getattr(arguments, name)}" for name in ("params", "rounds", "phase")]
    result = run_child(backend, *flags)
    result["memory"] = {}
    if sys.platform == "linux" and not arguments.skip_memory:
        for way in [NO_CALLBACK, *result["stalls"]]:
            if WAYS.get(way, ("",))[0] != "memcpy":
                found = [
                    run_child(backend, *flags, "--memory", way) for _ in range(arguments.processes)
                ]
                extra = [memory["extra"] for memory in found]
                result["memory"][way] = {
                    "state": found[0]["state"],
                    "extra": statistics.median(extra),
                    "extras": extra,
                }
    result["verdicts"] = verdicts(result)
    return result


# ------------------------------------------------------------------ the targets


def verdicts(result):
    """Each target with its ratio, from medians; `met` is `None` where there is no target."""
    median = {way: statistics.median(taken["stall"]) for way, taken in result["stalls"].items()}
    memcpy = median["memcpy into warm memory"]
    found = []

    def add(what, ratio, limit, at_most):
        met = ratio <= limit if at_most else ratio >= limit
        found.append(
            {
                "what": what,
                "ratio": ratio,
                "target": f"{'<=' if at_most else '>='} {limit:g}x",
                "met": met,
            }
        )

    for suffix in (".weights.h5", ".keras"):
        ours = median[f"kcp {suffix}"]
        add(f"stall of {suffix} / memcpy", ours / memcpy, COPIES[result["backend"]], True)
        cow = median.get(f"kcp {suffix}, copy-on-write")
        if cow is not None:
            add(f"stall of {suffix}, copy-on-write / memcpy", cow / memcpy, 1.0, True)
        peer = median[f"keras ModelCheckpoint {suffix}"]
        add(f"stall of keras ModelCheckpoint {suffix} / ours", peer / ours, 5.0, False)
        orbax = median.get("keras OrbaxCheckpoint, background")
        if orbax is not None:
            add(f"stall of OrbaxCheckpoint / ours {suffix}", orbax / ours, 1.0, False)
    steps = {kind: statistics.median(taken) for kind, taken in result["steps"].items() if taken}
    writes = {kind: statistics.median(taken) for kind, taken in result["writes"].items()}
    for suffix, limit in ((".weights.h5", 0.8), (".keras", 0.7)):
        add(f"step while writing {suffix} / idle", steps[suffix] / steps["nothing"], 1.1, True)
        add(
            f"speed of {suffix} / plain write + fsync",
            writes["plain"] / writes[suffix],
            limit,
            False,
        )
    for way, memory in result["memory"].items():
        if way.startswith("kcp"):
            add(f"extra memory of {way} / state", memory["extra"] / memory["state"], 1.1, True)
    return found


# ------------------------------------------------------------------ the report


def versions():
    found = {"python": platform.python_version()}
    for package in (
        "keras",
        "tensorflow",
        "tensorflow-cpu",
        "jax",
        "torch",
        "orbax-checkpoint",
        "numpy",
    ):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def spread(values):
    values = [value * 1e3 for value in values]
    return f"{statistics.median(values):.1f} ({min(values):.1f}-{max(values):.1f})"


def _in_states(memory):
    return f"{memory['extra'] / memory['state']:.2f}x state"


def report(console, result):
    from rich.table import Table

    title = (
        f"{result['backend']}: {result['parameters'] / 1e6:.2f}M parameters with Adam, "
        f"{result['variables']} variables, {result['bytes'] / 1e6:.0f} MB"
    )
    memcpy = statistics.median(result["stalls"]["memcpy into warm memory"]["stall"])
    table = Table(title=f"{title}\nms, median (min-max)", title_justify="left")
    for column in ("a save", "stall of fit", "x memcpy", "next step", "first save", "extra memory"):
        table.add_column(column, justify="left" if column == "a save" else "right")
    if NO_CALLBACK in result["memory"]:
        table.add_row(NO_CALLBACK, "", "", "", "", _in_states(result["memory"][NO_CALLBACK]))
    for way in WAYS:
        taken = result["stalls"].get(way)
        if taken is None:
            why = "not installed" if WAYS[way][0] == "orbax" else "not safe on this backend"
            table.add_row(way, why)
            continue
        memory = result["memory"].get(way)
        table.add_row(
            way,
            spread(taken["stall"]),
            f"{statistics.median(taken['stall']) / memcpy:.2f}",
            spread(taken["next"]),
            f"{taken['first'] * 1e3:.0f}",
            "" if memory is None else _in_states(memory),
        )
    console.print(table)

    table = Table(title="Meanwhile, and on disk; ms, median (min-max)", title_justify="left")
    for column in ("beside it", "a step", "x idle", "until durable", "alone", "x plain speed"):
        table.add_column(column, justify="left" if column == "beside it" else "right")
    steps, writes = result["steps"], result["writes"]
    idle, plain = statistics.median(steps["nothing"]), statistics.median(writes["plain"])
    for kind, taken in steps.items():
        written = writes.get(kind)
        table.add_row(
            {"memcpy": "a thread that only copies", "nothing": "nothing"}.get(kind, f"kcp {kind}"),
            spread(taken),
            f"{statistics.median(taken) / idle:.2f}",
            spread(result["durable"][kind]) if result["durable"].get(kind) else "",
            "" if written is None else spread(written),
            "" if written is None else f"{plain / statistics.median(written):.2f}",
        )
    table.add_row("plain write + fsync", "", "", "", spread(writes["plain"]), "1.00")
    console.print(table)

    table = Table(title="Targets, by medians", title_justify="left")
    for column in ("ratio", "measured", "target", "met"):
        table.add_column(column, justify="left" if column == "ratio" else "right")
    for verdict in result["verdicts"]:
        table.add_row(
            verdict["what"],
            f"{verdict['ratio']:.2f}x",
            verdict["target"],
            "[green]yes[/green]" if verdict["met"] else "[red]no[/red]",
        )
    console.print(table)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="after one to warm up")
    parser.add_argument("--params", type=int, default=25_000_000, help="of the model")
    parser.add_argument("--backend", choices=BACKENDS, help="only this one")
    parser.add_argument("--json", action="store_true", help="print everything measured as JSON")
    parser.add_argument(
        "--phase", type=float, default=0.8, help="seconds of steps beside one kind of work"
    )
    parser.add_argument(
        "--processes", type=int, default=3, help="for the memory of each way: a peak differs"
    )
    parser.add_argument("--skip-memory", action="store_true", help="a process for each way less")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(child(arguments)))
        return
    installed = [name for name, module in BACKENDS.items() if has(module)]
    chosen = [arguments.backend] if arguments.backend else installed
    machine = {"platform": platform.platform(), "cores": os.cpu_count(), "versions": versions()}
    results = []
    if not arguments.json:
        from rich.console import Console

        console = Console(width=120)
        console.print(machine)
    for backend in chosen:
        results.append(measure(backend, arguments))
        if not arguments.json:
            report(console, results[-1])
    if arguments.json:
        print(json.dumps({"machine": machine, "rounds": arguments.rounds, "results": results}))


if __name__ == "__main__":
    main()
