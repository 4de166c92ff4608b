"""What must be equal for one run to be the continuation of another, and how two of them differ."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Sequence
from typing import Any

from keras_callbacks_plus._keras import compat
from keras_callbacks_plus._keras.callback_state import CallbackStates
from keras_callbacks_plus._keras.fit_scope import FitScope

__all__ = ["differences", "fingerprint"]

# Keras numbers the names of a process's layers, and the wiring of a functional model refers to
# them; a learning rate may be changed.
_NOT_COMPARED = frozenset(
    {"name", "learning_rate", "inbound_nodes", "input_layers", "output_layers", "build_config"}
)
_LONGEST = 60


def fingerprint(
    scope: FitScope, params: dict[str, Any], callbacks: Sequence[Any]
) -> dict[str, Any]:
    """What must be equal for a run to be the continuation of another.

    Args:
        scope: The running `fit`.
        params: Keras's parameters of the callbacks (`steps`).
        callbacks: The callbacks whose state is kept.

    Returns:
        Facts by name, in JSON types. The number of epochs and the learning rate are not among
        them: changing those is how a run is continued.
    """
    model = scope.model
    adapter = scope.epoch_iterator.data_adapter
    facts: dict[str, Any] = {
        "backend": compat.backend(),
        **_versions(),
        "input": compat.input_kind(scope.epoch_iterator),
        "steps per epoch": params.get("steps"),
        "batch size": _of_data(adapter, "batch_size"),
        "samples in the last batch of an epoch": _of_data(adapter, "partial_batch_size"),
        "steps_per_execution": int(model.steps_per_execution),
        "optimizer": _optimizer(getattr(model, "optimizer", None)),
        "layers": [_part(layer) for layer in model.layers],
        "callbacks": CallbackStates.names(callbacks),
    }
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
    import keras

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


def _optimizer(optimizer: Any) -> dict[str, str] | None:
    if optimizer is None:
        return None
    return {"class": type(optimizer).__name__, **_config(optimizer)}


def _part(layer: Any) -> dict[str, str]:
    return {"class": type(layer).__name__, **_config(layer)}


def _config(owner: Any) -> dict[str, str]:
    """Each entry of `get_config()` as text; nothing where the user's class has no config."""
    try:
        config = owner.get_config()
    except (NotImplementedError, TypeError, ValueError, AttributeError):
        return {}
    if not isinstance(config, dict):
        return {}
    return {str(k): _text(v) for k, v in sorted(config.items()) if k not in _NOT_COMPARED}


def _text(value: Any) -> str:
    def plain(item: Any) -> str:
        return type(item).__qualname__

    return json.dumps(_without_names(value), sort_keys=True, default=plain)


def _without_names(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _without_names(v) for k, v in value.items() if k not in _NOT_COMPARED}
    if isinstance(value, list | tuple):
        return [_without_names(item) for item in value]
    return value


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
        if name == "variables" and saved.get("layers") != now.get("layers"):
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
