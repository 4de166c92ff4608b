"""A process that saves a 20 MB model at every batch until it is killed; started by the tests.

`saving_child.py FOLDER KILL_AT NAME`: `KILL_AT` is the number of the disk operation (counted from
the second save on) before which it kills itself, or -1; `NAME` is that of the files.
"""

from __future__ import annotations

import os
import signal
import sys

import keras
import numpy as np

import keras_callbacks_plus as kcp
from keras_callbacks_plus.storage import locate
from keras_callbacks_plus.storage.filesystem import LocalFileSystem

CHANGING = ("make_folder", "create", "write", "sync", "rename", "sync_folder", "remove")


class Counting:
    """The local disk, with an end."""

    count = -1  # counts from when it is set to 0

    def __init__(self):
        self.inner = LocalFileSystem()

    def __getattr__(self, name):
        method = getattr(self.inner, name)
        if name not in CHANGING:
            return method

        def counted(*arguments):
            if Counting.count >= 0:
                if Counting.count == int(sys.argv[2]):
                    os.kill(os.getpid(), signal.SIGKILL)
                Counting.count += 1
            return method(*arguments)

        return counted


class Tell(keras.callbacks.Callback):
    """Says when the first file is on the disk."""

    def __init__(self, checkpoint):
        super().__init__()
        self.checkpoint = checkpoint

    def on_train_batch_end(self, batch, logs=None):
        if Counting.count < 0 and int(self.model.optimizer.iterations) > 1:
            self.checkpoint.wait_until_finished()
            Counting.count = 0
            print("SAVING", flush=True)


def main():
    locate.LocalFileSystem = Counting
    keras.utils.set_random_seed(os.getpid())
    units = 1560  # two matrices of 9.7 MB
    model = keras.Sequential(
        [keras.Input((units,)), keras.layers.Dense(units), keras.layers.Dense(units)]
    )
    model.compile(keras.optimizers.SGD(1e-6), "mse")
    name = sys.argv[3]
    is_fixed = "{" not in name  # a file that is replaced at each save
    checkpoint = kcp.ModelCheckpoint(
        os.path.join(sys.argv[1], name),
        monitor="loss",
        save_weights_only=name.endswith(".weights.h5"),
        save_freq=1,
        keep=None if is_fixed else kcp.policies.BestN(1) | kcp.policies.LatestN(2),
    )
    x = np.random.default_rng(os.getpid()).random((32, units)).astype("float32")
    model.fit(x, x, batch_size=4, epochs=999, verbose=0, callbacks=[checkpoint, Tell(checkpoint)])


if __name__ == "__main__":
    main()
