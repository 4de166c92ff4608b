"""Reads back what a run left, with Keras and TensorBoard alone: this package cannot be imported.

The demo runs this file's text with `python -c`, so that not even its own folder is on the path. It
takes a JSON request on standard input and prints a JSON answer.
"""

import hashlib
import importlib.abc
import json
import os
import sys
import types
from typing import Any

PACKAGE = "keras_callbacks_plus"


class Forbidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:  # noqa: ARG002 - importlib's
        if name.split(".")[0] == PACKAGE:
            raise ImportError(f"{name} may not be imported here")


def digest(array: Any) -> str:
    return hashlib.sha256(f"{array.dtype.str}{array.shape}".encode() + array.tobytes()).hexdigest()


def digests(variables: Any) -> list[str]:
    import keras

    return [digest(keras.ops.convert_to_numpy(variable.value)) for variable in variables]


def read_model(path: str, data: Any) -> dict[str, Any]:
    import keras

    model = keras.models.load_model(path)
    scores = {
        name: model.evaluate(
            data[f"{name}_images"],
            data[f"{name}_labels"],
            batch_size=int(data["batch_size"]),
            verbose=0,
            return_dict=True,
        )
        for name in ("validation", "test")
    }
    return {
        "weights": digests(model.weights),
        "optimizer": digests(model.optimizer.variables),
        "scores": scores,
    }


def read_charts(folder: str) -> dict[str, list[list[float]]]:
    """Every scalar that TensorBoard's own reader finds: {"train/loss": [[step, value], ...]}."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    charts = {}
    for where, _, names in sorted(os.walk(folder)):
        if not any("tfevents" in name for name in names):
            continue
        reader = EventAccumulator(where, size_guidance={"scalars": 0})
        reader.Reload()
        prefix = os.path.relpath(where, folder)
        for tag in reader.Tags()["scalars"]:
            charts[f"{prefix}/{tag}"] = [[e.step, e.value] for e in reader.Scalars(tag)]
    return charts


def main() -> None:
    sys.meta_path.insert(0, Forbidden())
    # TensorBoard's own way of saying that TensorFlow is not to be used for reading files
    sys.modules["tensorboard.compat.notf"] = types.ModuleType("tensorboard.compat.notf")
    import keras  # takes long: before the request is there
    import numpy as np

    request = json.load(sys.stdin)
    data = np.load(request["data"])
    answer: dict[str, Any] = {
        "models": {path: read_model(path, data) for path in request["models"]},
        "charts": {folder: read_charts(folder) for folder in request["charts"]},
    }
    try:
        __import__(PACKAGE)
        answer["importable"] = True
    except ImportError:
        answer["importable"] = False
    answer["imported"] = sorted(m for m in sys.modules if m.split(".")[0] == PACKAGE)
    answer["keras"] = keras.__version__
    print(json.dumps(answer))


main()
