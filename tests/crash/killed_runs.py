"""Runs that are killed at random moments and started again to the end; one line of figures each.

    KERAS_BACKEND=jax python -m tests.crash.killed_runs INPUT... [--runs 50] [--callback keras]

Without an input it is all of them that the installed packages allow. With Keras's own callback in
the place of ours the process's seed is always the same, which favours it.
"""

from __future__ import annotations

import argparse
import collections
import functools
import gc
import importlib.util
import json
import os
import random
import shutil
import tempfile
import time
from pathlib import Path

import keras

from keras_callbacks_plus.storage.atomic import is_staging_name
from tests.crash.forked_start import END, Kill, start
from tests.helpers import resumed_runs

EPOCHS, KILLS = 3, 5
EPOCH_BEGAN, TRAINED = "e", "t"  # what a start says
COUNTED = (
    "equal",
    "different",
    "failed",
    "starts",
    "starts_of_a_finished_run",
    "kills",
    "kills_during_a_commit",
)
READERS = ("h5py", "tensorboard.backend.event_processing.event_accumulator")


def import_all(kinds):
    """What a start needs, so that it need not import it; nothing is computed before the forks."""
    names = {*READERS, *(module for kind in kinds for module in resumed_runs.needs(kind))}
    if importlib.util.find_spec("tensorflow"):
        names.add("tensorflow")  # `keras.utils.set_random_seed` imports it wherever it is installed
    for name in sorted(names):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # the forks share it, and need not search it


def spare_the_processor(cache, *, write):
    """Settings that change how long a start takes; all starts of a campaign have the same.

    JAX writes what it has compiled in place, so only a start that is not killed may.
    """
    gc.disable()  # it lives for seconds
    if keras.backend.backend() == "torch":
        importlib.import_module("torch").set_num_threads(1)
    if keras.backend.backend() == "jax":
        config = importlib.import_module("jax").config
        config.update("jax_compilation_cache_dir", str(cache))
        config.update("jax_persistent_cache_min_entry_size_bytes", -1)
        config.update("jax_persistent_cache_min_compile_time_secs", 0 if write else 1e9)


def keras_backup(folder, save_freq, **arguments):
    """Keras's own callback, in the place of ours."""
    return keras.callbacks.BackupAndRestore(
        str(folder), save_freq=save_freq, delete_checkpoint=False, **arguments
    )


CALLBACKS = {
    "keras_callbacks_plus": resumed_runs.exact_backup,
    "keras": keras_backup,
    "keras-double_checkpoint": functools.partial(keras_backup, double_checkpoint=True),
}


def saying(say):
    """A callback that says where the training is, and holds nothing that a resume would keep."""

    class Says(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            say(EPOCH_BEGAN)

        def on_train_end(self, logs=None):
            say(TRAINED)

    return Says()


def staged(folder):
    """The files of snapshots that a kill has left half written."""
    if not (folder / "backup").is_dir():
        return set()
    return {name for name in os.listdir(folder / "backup") if is_staging_name(name)}


class KilledRuns:
    """The runs of one input, and what is counted of them.

    Args:
        kind: One of `resumed_runs.INPUTS`.
        place: Path of an empty folder.
        callback: One of `CALLBACKS`.
    """

    def __init__(self, kind, place, callback="keras_callbacks_plus"):
        self.kind = kind
        self.place = place
        self.callback = callback
        self.chance = random.Random(f"{kind} {keras.backend.backend()}")
        self.counts = collections.Counter()
        self.differing = collections.Counter()
        self.errors = collections.Counter()
        self.wrong = {}

    def figures(self, runs):
        """What is counted, of so many runs."""
        begun = time.monotonic()
        whole = self.whole("first")
        # with what the first has compiled: as long as those to come, if nothing else holds them up
        again = [self.whole(f"again-{number}") for number in range(2)]
        if any(resumed_runs.differing(whole.result, other.result) for other in again):
            raise RuntimeError("Runs that are not killed differ: nothing can be compared.")
        usual = min((other.said for other in again), key=lambda said: said[END])
        for number in range(runs):
            folder = self.place / f"{number:02d}"
            self.judge(folder, whole.result, self.run(folder, usual))
        return {
            "backend": keras.backend.backend(),
            "input": self.kind,
            "callback": self.callback,
            "runs": runs,
            **{name: self.counts[name] for name in COUNTED},
            "differing": dict(self.differing),
            "errors": dict(self.errors),
            "seconds": round(time.monotonic() - begun, 1),
            "seconds_of_a_start": round(usual[END], 2),
            "wrong": self.wrong,
        }

    def whole(self, name):
        """A run that is not killed."""
        ended = self.start(self.place / name, seed=1)
        if ended.error:
            raise RuntimeError(f"The run that is not killed failed: {ended.error}")
        return ended

    def run(self, folder, usual):
        """One run, started until its last start, which is not killed; how that ended.

        A start that has ended before its kill is followed by starts of a finished run, which
        must change nothing.
        """
        for number in range(self.chance.randint(1, KILLS)):
            before = staged(folder)
            ended = self.start(folder, seed=self.seed(folder, number), kill=self.moment(usual))
            self.counts["kills"] += ended.killed
            self.counts["kills_during_a_commit"] += bool(staged(folder) - before)
            if ended.error:
                return ended
        return self.start(folder, seed=self.seed(folder, KILLS))

    def start(self, folder, *, seed, kill=None):
        def program(say):
            spare_the_processor(self.place / "compiled", write=kill is None)
            return resumed_runs.train(
                folder,
                self.kind,
                seed=seed,
                epochs=EPOCHS,
                callbacks=[saying(say)],
                make_backup=CALLBACKS[self.callback],
            )

        folder.mkdir(exist_ok=True)
        ended = start(program, folder.with_suffix(".log"), kill)
        self.counts["starts"] += 1
        self.counts["starts_of_a_finished_run"] += (
            ended.result is not None and EPOCH_BEGAN not in ended.said
        )
        return ended

    def seed(self, folder, number):
        """Another one for each start that finds a snapshot, where the data does not follow it."""
        # not the manifest: a kill may have left one that only says which file is going to be there;
        # Keras's callback has none of these
        begun = any((folder / "backup").glob("snapshot-*.kcp"))
        return 50 + number if begun and not resumed_runs.follows_the_seed(self.kind) else 1

    def moment(self, usual):
        """Within the whole life of a start, or within its training."""
        if self.chance.random() < 0.3:
            return Kill(self.chance.uniform(0.0, usual[END]))
        training = usual[TRAINED] - usual[EPOCH_BEGAN]
        return Kill(self.chance.uniform(0.0, training), after=EPOCH_BEGAN)

    def judge(self, folder, whole, ended):
        """Counts a run; the files of one that is not equal are left for whoever looks into it."""
        if ended.error:
            self.counts["failed"] += 1
            self.errors[ended.error.splitlines()[-1]] += 1
            self.wrong[folder.name] = ended.error
            return
        differs = resumed_runs.differing(whole, ended.result)
        self.counts["different" if differs else "equal"] += 1
        self.differing.update(differs)
        if differs:
            self.wrong[folder.name] = differs
        else:
            shutil.rmtree(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    possible = [kind for kind in resumed_runs.INPUTS if not resumed_runs.missing(kind)]
    parser.add_argument("kinds", nargs="*", metavar="INPUT", help=", ".join(possible))
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--callback", choices=CALLBACKS, default="keras_callbacks_plus")
    parser.add_argument("--folder", type=Path, help="for the files of the runs")
    arguments = parser.parse_args()
    kinds = arguments.kinds or possible
    import_all(kinds)
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="killed-runs-"))
    for kind in kinds:
        place = folder / kind
        place.mkdir(parents=True)
        runs = KilledRuns(kind, place, arguments.callback)
        figures = runs.figures(arguments.runs)
        print(json.dumps(figures), flush=True)
        if not figures["wrong"]:
            shutil.rmtree(place)


if __name__ == "__main__":
    main()
