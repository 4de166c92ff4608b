"""What must be equal for one run to be the continuation of another, and how two of them differ."""

from __future__ import annotations

import hashlib
import importlib.metadata
import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_callbacks_plus._keras import compat, learning_rate
from keras_callbacks_plus._keras.callback_state import CallbackStates
from keras_callbacks_plus._keras.canonical_config import canonical, config_of, wiring
from keras_callbacks_plus._keras.fit_scope import FitScope
from keras_callbacks_plus._keras.held_parts import optimizers
from keras_callbacks_plus._keras.resumable_data import ResumableData

__all__ = ["differences", "fingerprint"]

_LONGEST = 60
_CONNECTIONS = "connections of the layers"
_SAMPLES = "samples of the data (a checksum of a few)"
_VALIDATION_SAMPLES = "samples of the validation data (a checksum of a few)"
_LOOKED_AT = 16  # of them
_OF_LAYERS = (_CONNECTIONS, "variables")


def fingerprint(
    scope: FitScope,
    params: dict[str, Any],
    callbacks: Sequence[Any],
    arguments: dict[str, Any],
) -> dict[str, Any]:
    """What must be equal for a run to be the continuation of another.

    Args:
        scope: The running `fit`.
        params: Keras's parameters of the callbacks (`steps`).
        callbacks: The callbacks whose state is kept.
        arguments: What `fit` was called with.

    Returns:
        Facts by name, in JSON types. The number of epochs and the learning rate are not among
        them: changing those is how a run is continued.
    """
    model = scope.model
    adapter = scope.epoch_iterator.data_adapter
    facts: dict[str, Any] = {
        "backend": compat.backend(),
        "device": compat.device_kind(),
        **_versions(),
        "input": compat.input_kind(scope.epoch_iterator),
        "steps per epoch": params.get("steps"),
        "batch size": _of_data(adapter, "batch_size"),
        "samples in the last batch of an epoch": _of_data(adapter, "partial_batch_size"),
        "steps_per_execution": int(model.steps_per_execution),
        **_order(scope, arguments),
        **{path: _optimizer(one) for path, one in optimizers(model).items()},
        "dtype policy": str(getattr(getattr(model, "dtype_policy", None), "name", None)),
        "layers": [{"class": type(one).__name__, **config_of(one)} for one in model.layers],
        **_compiled(model),
        "callbacks": CallbackStates.names(callbacks),
    }
    connections = wiring(model)
    if connections is not None:
        facts[_CONNECTIONS] = connections
    if model.built:
        facts["variables"] = [
            f"{tuple(int(n) for n in v.shape)} {v.dtype}" for v in model.variables
        ]
    if compat.backend() == "tensorflow" or facts["input"] == "TFDatasetAdapter":
        facts["TensorFlow's global seed (keras.utils.set_random_seed)"] = (
            compat.tensorflow_global_seed()
        )
    return facts


def _versions() -> dict[str, str]:
    versions = {"Keras version": str(keras.__version__)}
    names = {"tensorflow": ("tensorflow", "tensorflow-cpu"), "jax": ("jax", "jaxlib")}
    for name in (*names.get(compat.backend(), (compat.backend(),)), "numpy"):
        try:
            versions[f"{name} version"] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # TensorFlow goes by several names
    return versions


def _of_data(adapter: Any, name: str) -> int | None:
    """A number that not every kind of input knows."""
    try:
        value = getattr(adapter, name)
    except NotImplementedError:
        return None
    return None if value is None else int(value)


def _order(scope: FitScope, arguments: dict[str, Any]) -> dict[str, Any]:
    """What else decides which samples a batch has, and what they weigh."""
    weights = arguments.get("class_weight")
    facts: dict[str, Any] = {
        "class weights": None if weights is None else canonical(_sorted(weights)),
        "sample weights": arguments.get("sample_weight") is not None,
    }
    source = compat.python_input(scope.epoch_iterator)
    if isinstance(source, ResumableData):
        facts["kcp.resumable"] = {"class": "resumable", **source.parameters}
        facts[_SAMPLES] = _digest_of_samples(source.parts)
    elif compat.input_kind(scope.epoch_iterator) in ("ArrayDataAdapter", "PyDatasetAdapter"):
        facts["shuffle"] = arguments.get("shuffle")
    if compat.input_kind(scope.epoch_iterator) == "ArrayDataAdapter":
        facts[_SAMPLES] = _digest_of_samples((arguments.get("x"), arguments.get("y")))
    validation = (arguments.get("val_x"), arguments.get("val_y"))
    facts[_VALIDATION_SAMPLES] = _digest_of_samples(validation)
    for name in ("validation_freq", "validation_steps", "validation_batch_size"):
        facts[name] = canonical(arguments.get(name))
    return facts


def _digest_of_samples(parts: Any) -> str | None:
    """Tells the arrays of one fold of cross-validation from those of another, in no time."""
    digest = hashlib.sha256()
    for leaf in keras.tree.flatten(parts):
        if leaf is None:
            continue
        if not hasattr(leaf, "__array__"):  # a sparse matrix, say
            return None
        rows = getattr(leaf, "iloc", leaf)  # of pandas
        places = np.linspace(0, leaf.shape[0] - 1, min(_LOOKED_AT, leaf.shape[0]))
        for place in places.astype(int).tolist():
            sample = np.asarray(compat.to_numpy(rows[place]))
            if sample.dtype.hasobject:
                return None
            digest.update(f"{sample.dtype}{sample.shape}".encode() + sample.tobytes())
    return digest.hexdigest()[:12]


def _sorted(weights: Any) -> Any:
    pairs = sorted(dict(weights).items()) if hasattr(weights, "items") else weights
    return [[str(kind), float(weight)] for kind, weight in pairs]


def _compiled(model: Any) -> dict[str, Any]:
    """What the model was compiled with, beside the optimizer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras's, that a function of one's own cannot be loaded
        try:
            config = model.get_compile_config()
        except (NotImplementedError, TypeError, ValueError, AttributeError):
            return {}
    left = {**(config or {})}
    for name in ("optimizer", "steps_per_execution"):  # they are facts of their own
        left.pop(name, None)
    return {f"compiled {name}": canonical(value) for name, value in sorted(left.items())}


def _optimizer(optimizer: Any) -> dict[str, str] | None:
    if optimizer is None:
        return None
    facts = {"class": type(optimizer).__name__, **config_of(optimizer)}
    parts = learning_rate.optimizers_of(optimizer)
    if all(hasattr(part, "learning_rate") for part in parts):
        # a rate may be changed, but one that is computed has no variable
        scheduled = any(learning_rate.owns_schedule(part) for part in parts)
        facts["learning_rate"] = "a schedule" if scheduled else "a number"
    return facts


def differences(saved: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """One line for each fact that differs between two fingerprints.

    A fact that only one of them knows (an unbuilt model has no list of variables) is not compared.

    Args:
        saved: The fingerprint in the snapshot.
        now: That of the run which is starting.
    """
    lines = []
    for name in saved:
        if name not in now or saved[name] == now[name]:
            continue
        if name in _OF_LAYERS and saved.get("layers") != now.get("layers"):
            continue  # they differ because the layers do
        lines.append(f"{name}: {_difference(saved[name], now[name])}")
    return lines


def _difference(before: Any, after: Any) -> str:
    if isinstance(before, list) and isinstance(after, list):
        for index, (old, new) in enumerate(zip(before, after, strict=False)):
            if old != new:
                return f"number {index} {_difference(old, new)}"
        return f"there were {len(before)}, there are {len(after)}"
    if isinstance(before, dict) and isinstance(after, dict):
        if before.get("class") != after.get("class"):
            return f"was {before.get('class')}, is {after.get('class')}"
        keys = [k for k in {**before, **after} if before.get(k) != after.get(k)]
        changes = [f"{k} was {_short(before.get(k))}, is {_short(after.get(k))}" for k in keys]
        return f"({after.get('class')}) {'; '.join(changes)}"
    return f"was {_short(before)}, is {_short(after)}"


def _short(value: Any) -> str:
    text = "absent" if value is None else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
