"""The weights that produced a score, with the moving averages that belong to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_callbacks_plus._keras import compat

__all__ = ["copy_averages", "copy_weights", "restore"]


def copy_weights(model: Any) -> list[Any]:
    """Copies of `model.get_weights()`, which training cannot change.

    Args:
        model: The model; on JAX its state is attached first.
    """
    compat.recover_state_after_failure(model)
    return [np.array(w) for w in model.get_weights()]


def copy_averages(model: Any) -> list[Any]:
    """Copies of the optimizer's moving averages of the weights; empty without `use_ema`.

    Args:
        model: The model being trained.
    """
    pairs = compat.averaged_variables(model)
    return [np.array(compat.to_numpy(average.value)) for _, average in pairs]


def restore(model: Any, weights: Sequence[Any], averages: Sequence[Any], *, finalize: bool) -> None:
    """Puts weights and averages back as the pair they were.

    Args:
        model: The model.
        weights: What `copy_weights` returned.
        averages: What `copy_averages` returned.
        finalize: Whether to end as Keras ends a `fit` with `use_ema`: averages as the weights.
    """
    model.set_weights([np.array(w) for w in weights])
    if not averages:
        return
    pairs = compat.averaged_variables(model)
    for (weight, average), value in zip(pairs, averages, strict=True):
        average.assign(
            np.array(value)
        )  # own copies: on JAX, sharing one buffer breaks the next fit
        if finalize:
            weight.assign(np.array(value))
