"""A Keras config as text that is equal for equal models: without the names that Keras numbers."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["canonical", "config_of", "wiring"]

# Keras numbers the names of a process's layers; a learning rate may be changed; what `build` was
# called with is known when it has been.
_NOT_COMPARED = frozenset({"name", "learning_rate", "build_config", "shared_object_id"})
_ENDS = frozenset({"input_layers", "output_layers"})


def config_of(owner: Any) -> dict[str, str]:
    """Each entry of `get_config()` as text; nothing where the user's class has no config.

    Args:
        owner: A layer or an optimizer.
    """
    try:
        config = owner.get_config()
    except (NotImplementedError, TypeError, ValueError, AttributeError):
        return {}
    if not isinstance(config, dict):
        return {}
    return {name: _text(value) for name, value in sorted(_plain(config, {}).items())}


def canonical(value: Any, numbers: dict[str, int] | None = None) -> str:
    """A part of a config as text.

    Args:
        value: The part.
        numbers: The layers around it: their place by their name.
    """
    return _text(_plain(value, numbers or {}))


def _text(plain: Any) -> str:
    return json.dumps(plain, sort_keys=True, default=lambda item: type(item).__qualname__)


def wiring(model: Any) -> list[dict[str, str]] | None:
    """Which layers each layer of a functional model takes its inputs from, by their places.

    Args:
        model: The model.

    Returns:
        A fact for each layer, and one for the outputs; `None` for any other model.
    """
    try:
        config = model.get_config()
    except (NotImplementedError, TypeError, ValueError, AttributeError):
        return None
    if not isinstance(config, dict) or "output_layers" not in config:
        return None
    numbers = _numbers(config)
    facts = [
        {
            "class": str(layer.get("class_name")),
            "inputs": canonical(layer.get("inbound_nodes"), numbers),
        }
        for layer in config["layers"]
    ]
    ends = {"class": "inputs and outputs"}
    for name in sorted(_ENDS):
        ends[name] = _text(_ends(config[name], numbers))
    return [*facts, ends]


def _numbers(config: dict[str, Any]) -> dict[str, int]:
    layers = config.get("layers")
    if not isinstance(layers, list):
        return {}
    names = [layer.get("name") for layer in layers if isinstance(layer, dict)]
    return {name: place for place, name in enumerate(names) if isinstance(name, str)}


def _plain(value: Any, numbers: dict[str, int]) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item, numbers) for item in value]
    if not isinstance(value, dict):
        return value
    kind, config = value.get("class_name"), value.get("config")
    if kind == "__lambda__":
        return "a lambda"  # its code has the place of the script in it
    if kind == "__keras_tensor__" and isinstance(config, dict):
        layer, *place = config.get("keras_history", [None])
        return f"layer {numbers.get(layer, layer)}" + (f" {place}" if any(place) else "")
    if isinstance(kind, str) and kind.endswith("DTypePolicy") and isinstance(config, dict):
        return config.get("name", kind)
    inner = _numbers(value) or numbers
    return {
        str(k): _ends(v, inner) if k in _ENDS else _plain(v, inner)
        for k, v in value.items()
        if k not in _NOT_COMPARED
    }


def _ends(value: Any, numbers: dict[str, int]) -> Any:
    """Inputs or outputs of a model (`[name, node, tensor]`, nested), with places for names."""
    if isinstance(value, list | tuple):
        return [_ends(item, numbers) for item in value]
    if isinstance(value, dict):
        return {str(k): _ends(v, numbers) for k, v in value.items()}
    return numbers.get(value, value) if isinstance(value, str) else value
