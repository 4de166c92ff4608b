"""Every random number generator that a run draws from and that no model variable holds."""

from __future__ import annotations

import random
import sys
from typing import Any

import numpy as np

from keras_callbacks_plus._keras import compat

__all__ = ["capture_random_state", "restore_random_state"]


def capture_random_state() -> dict[str, Any]:
    """The state of Python's, NumPy's, Keras's, PyTorch's and TensorFlow's global generators.

    Only modules that are already imported are asked; none is imported.

    Returns:
        A tree of JSON types and NumPy arrays (copies).
    """
    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    state: dict[str, Any] = {
        "python": {"version": version, "state": list(internal), "gauss": gauss},
        "numpy": {
            "name": str(name),
            "keys": np.array(keys),
            "position": int(position),
            "has_gauss": int(has_gauss),
            "cached": float(cached),
        },
    }
    seed_generator = compat.global_seed_generator()
    if seed_generator is not None:
        value = compat.to_numpy(seed_generator.state.value)
        state["keras"] = np.array(value)
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_rng_state"):
        state["torch"] = torch.get_rng_state().numpy().copy()
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            state["torch_cuda"] = [s.numpy().copy() for s in torch.cuda.get_rng_state_all()]
    generator = compat.tensorflow_global_generator()
    if generator is not None:
        state["tensorflow"] = np.array(generator.state.numpy())
    return state


def restore_random_state(state: dict[str, Any], *, of_python: bool = True) -> None:
    """Puts back what `capture_random_state` returned.

    Args:
        state: The tree, from this or another process.
        of_python: Whether the generators that an input written in Python draws from (Python's,
            NumPy's, PyTorch's) are among those to put back. Defaults to `True`.
    """
    if "keras" in state:
        # Creating Keras's generator draws from Python's `random`, so it comes first.
        compat.global_seed_generator(create=True).state.assign(np.array(state["keras"]))
    if of_python:
        _restore_python(state)
    if "tensorflow" in state:
        generator = compat.tensorflow_global_generator(create=True)
        if generator is not None:
            generator.state.assign(np.array(state["tensorflow"]))


def _restore_python(state: dict[str, Any]) -> None:
    python = state["python"]
    random.setstate((python["version"], tuple(python["state"]), python["gauss"]))
    saved = state["numpy"]
    np.random.set_state(
        (
            saved["name"],
            np.array(saved["keys"]),
            saved["position"],
            saved["has_gauss"],
            saved["cached"],
        )
    )
    torch = sys.modules.get("torch")
    if torch is not None and "torch" in state:
        torch.set_rng_state(torch.from_numpy(np.array(state["torch"])))
        if "torch_cuda" in state and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(
                [torch.from_numpy(np.array(s)) for s in state["torch_cuda"]]
            )
