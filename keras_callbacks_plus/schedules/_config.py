"""Schedule <-> plain data (`dict`, `list`, `str`, numbers), ready for JSON."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from keras_callbacks_plus.errors import InvalidArgumentError

if TYPE_CHECKING:
    from keras_callbacks_plus.schedules._base import Schedule

__all__ = ["deserialize", "serialize"]

_CLASSES: dict[str, type[Schedule]] = {}


def register(cls: type[Schedule]) -> None:
    """Makes a class known to `deserialize`; every subclass of `Schedule` is registered so."""
    _CLASSES[_name_of(cls)] = cls


def _name_of(cls: type[Schedule]) -> str:
    """Ours go by their bare name; somebody else's carries its module, so that none can clash."""
    if cls.__module__.startswith(f"{__package__}."):
        return cls.__name__
    return f"{cls.__module__}.{cls.__qualname__}"


def serialize(schedule: Schedule) -> dict[str, Any]:
    """Describes a schedule, and those within it, by plain data.

    Args:
        schedule: The schedule.

    Returns:
        A dict of `class_name` and `config`, made of JSON types only.

    Example:

    >>> import keras_callbacks_plus as kcp
    >>> kcp.schedules.serialize(kcp.schedules.Constant(0.1))
    {'class_name': 'Constant', 'config': {'learning_rate': 0.1}}
    """
    return {"class_name": _name_of(type(schedule)), "config": schedule.get_config()}


def deserialize(config: dict[str, Any]) -> Schedule:
    """Makes the schedule that `serialize` described.

    Args:
        config: What `serialize` returned.

    Returns:
        A schedule equal to the one described.

    Raises:
        InvalidArgumentError: If the description is of no known schedule.

    Example:

    >>> import keras_callbacks_plus as kcp
    >>> schedule = kcp.schedules.Warmup(kcp.schedules.CosineDecay(0.1, 900), 100)
    >>> kcp.schedules.deserialize(kcp.schedules.serialize(schedule)) == schedule
    True
    """
    if not isinstance(config, dict) or set(config) != {"class_name", "config"}:
        raise InvalidArgumentError(
            "config",
            config,
            "a dict with the keys 'class_name' and 'config'",
            "Pass what `keras_callbacks_plus.schedules.serialize` returned.",
        )
    cls = _CLASSES.get(config["class_name"])
    if cls is None:
        raise InvalidArgumentError(
            "config",
            config["class_name"],
            f"the description of one of: {', '.join(sorted(_CLASSES))}",
            "If the class is your own, import the module that defines it first.",
        )
    return cls.from_config(config["config"])


def fields_to_config(schedule: Schedule) -> dict[str, Any]:
    """The constructor arguments of a schedule, as plain data."""
    return {
        field.name: _encode(getattr(schedule, field.name))
        for field in dataclasses.fields(schedule)
        if field.init
    }


def config_to_arguments(config: dict[str, Any]) -> dict[str, Any]:
    """The constructor arguments that `fields_to_config` wrote down."""
    return {name: _decode(value) for name, value in config.items()}


def _encode(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_encode(item) for item in value]
    return serialize(value) if hasattr(value, "get_config") else value


def _decode(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_decode(item) for item in value)
    return deserialize(value) if isinstance(value, dict) else value
