"""Runs the training in a process of its own, and reports each batch to the process that asked.

It imports Keras, and begins when something comes in on its standard input. A training that outlives
a killed demo would write into the folder of the next one: so it ends when the other end of its
standard input is gone, and waits for a lock on its folder before it begins.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

from keras_callbacks_plus.storage import LocalFileSystem

__all__ = ["main"]


def main(directory: Path) -> None:
    """Trains in `directory`.

    Args:
        directory: The folder of the run.
    """
    told_to_go = threading.Event()
    threading.Thread(target=_obey, args=[told_to_go], daemon=True).start()
    import keras

    from keras_callbacks_plus.demo import training

    told_to_go.wait()
    directory.mkdir(parents=True, exist_ok=True)
    with LocalFileSystem().lock(str(directory / ".training.lock")):
        _say({"backend": keras.backend.backend(), "keras": keras.__version__})

        class Reporter(keras.callbacks.Callback):
            """Says where the training is: after each batch, and after each epoch."""

            def get_state(self) -> dict[str, int]:
                return {}

            def set_state(self, state: dict[str, int]) -> None:
                """Nothing to put back."""

            def on_epoch_begin(self, epoch: int, logs: object = None) -> None:  # noqa: ARG002 - Keras's
                self.epoch = epoch

            def on_train_batch_end(self, batch: int, logs: object = None) -> None:  # noqa: ARG002 - Keras's
                _say({"epoch": self.epoch, "batches": batch + 1})

            def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
                scores = {k: float(v) for k, v in (logs or {}).items()}
                _say({"epoch": epoch, "scores": scores})

        result = training.train(directory, [Reporter()], verbose=0)
        _say({"done": True, "epochs": len(result["epochs"])})


def _say(message: dict[str, object]) -> None:
    print(json.dumps(message), flush=True)


def _obey(told_to_go: threading.Event) -> None:
    while os.read(0, 1):
        told_to_go.set()
    os._exit(1)  # the other end is gone


if __name__ == "__main__":
    main(Path(sys.argv[1]))
