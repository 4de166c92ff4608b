"""Everything a run is, as one tree: variables, random state, position, callbacks, fingerprint."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from keras_callbacks_plus._keras import compat, snapshot
from keras_callbacks_plus._keras.callback_state import CallbackStates
from keras_callbacks_plus._keras.fit_scope import FitScope

__all__ = [
    "assign_model",
    "capture_model",
    "differences",
    "ensure_built",
    "fingerprint",
    "why_inexact",
]

FORMAT = 1


def capture_model(model: Any, buffers: dict[str, list[Any]] | None = None) -> dict[str, list[Any]]:
    """Copies every variable of a model to host memory.

    Args:
        model: The model being trained; on JAX its state is attached first.
        buffers: What an earlier call returned and nobody reads any more: the memory is used again,
            which is several times faster than fresh memory.

    Returns:
        Arrays in the order of the model's own lists: `"variables"` (weights, non-trainable,
        seed generators) and `"optimizer"`.
    """
    compat.recover_state_after_failure(model)
    buffers = buffers or {}
    return {
        name: snapshot.copy_variables(variables, buffers.get(name))
        for name, variables in _groups(model).items()
    }


def assign_model(model: Any, arrays: dict[str, list[Any]]) -> None:
    """Puts back what `capture_model` returned, by position.

    Args:
        model: A built model with a built optimizer.
        arrays: The arrays.
    """
    compat.recover_state_after_failure(model)
    for name, variables in _groups(model).items():
        snapshot.assign_variables(variables, arrays[name])


def _groups(model: Any) -> dict[str, list[Any]]:
    optimizer = getattr(model, "optimizer", None)
    return {
        "variables": list(model.variables),
        "optimizer": list(optimizer.variables) if optimizer is not None else [],
    }


def ensure_built(model: Any, build_config: dict[str, Any] | None) -> None:
    """Builds a model and its optimizer, so that there are variables to put values into.

    Keras on TensorFlow builds them in the first training step only.

    Args:
        model: The compiled model.
        build_config: What `model.get_build_config()` returned in the run that was saved.
    """
    if not model.built and build_config:
        model.build_from_config(build_config)
    optimizer = getattr(model, "optimizer", None)
    if model.built and optimizer is not None and not optimizer.built:
        optimizer.build(model.trainable_variables)


def build_config(model: Any) -> dict[str, Any] | None:
    """What `ensure_built` needs in another process, in JSON types."""
    config = model.get_build_config() if hasattr(model, "get_build_config") else None
    return json.loads(json.dumps(config)) if config else None


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
    optimizer = getattr(model, "optimizer", None)
    facts: dict[str, Any] = {
        "backend": compat.backend(),
        "Keras version": ".".join(map(str, compat.keras_version())),
        "steps per epoch": params.get("steps"),
        "input": compat.input_kind(scope.epoch_iterator),
        "optimizer": None if optimizer is None else type(optimizer).__name__,
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
        before, after = saved[name], now[name]
        if isinstance(before, list) and isinstance(after, list):
            lines.append(f"{name}: {_first_difference(before, after)}")
        else:
            lines.append(f"{name}: was {before!r}, is {after!r}")
    return lines


def _first_difference(before: list[Any], after: list[Any]) -> str:
    for index, (old, new) in enumerate(zip(before, after, strict=False)):
        if old != new:
            return f"number {index} was {old}, is {new}"
    return f"there were {len(before)}, there are {len(after)}"


def why_inexact(scope: FitScope) -> list[str]:
    """Why resuming at the end of an epoch could not be exact for this run, if so.

    Args:
        scope: The running `fit`.

    Returns:
        A line for each cause, with the way to make it exact.
    """
    iterator = scope.epoch_iterator
    kind = compat.input_kind(iterator)
    causes = []
    if compat.backend() == "tensorflow" and compat.tensorflow_global_seed() is None:
        shuffled = kind == "ArrayDataAdapter" and compat.input_is_shuffled(iterator)
        if shuffled or kind == "TFDatasetAdapter":
            causes.append(
                "TensorFlow shuffles the data in an order that only its global seed fixes, and "
                "none is set: call keras.utils.set_random_seed(...) at the top of the script."
            )
    if kind not in ("ArrayDataAdapter", "TFDatasetAdapter"):
        causes.append(
            f"The input ({kind}) may hold state of its own (its position, its order) that is not "
            "kept: pass arrays or a tf.data.Dataset, or derive the order from the epoch alone."
        )
    elif iterator.steps_per_epoch is not None:
        causes.append(
            "With `steps_per_epoch` one pass over the data spans several epochs, and its position "
            "is not kept: leave `steps_per_epoch` out."
        )
    return causes
