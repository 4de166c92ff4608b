"""What of a model holds variables beside its own list of them: optimizers, metrics of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

from keras_callbacks_plus._keras import compat

__all__ = [
    "held_parts",
    "not_kept",
    "optimizer_variables",
    "optimizers",
    "parts_in",
    "variable_groups",
]


_MANY = 1000  # items: a container of more holds data, a vocabulary for one


def parts_in(value: Any, path: str = "", inside: tuple[Any, ...] = ()) -> Iterator[tuple[str, Any]]:
    """The optimizers and metrics in an attribute, or in a container in it of up to 1000 items.

    Args:
        value: What the attribute holds.
        path: Where that is.
        inside: The containers around it.

    Returns:
        Pairs of a path and a part.
    """
    if isinstance(value, keras.optimizers.Optimizer | keras.metrics.Metric):
        yield path, value
    elif isinstance(value, list | tuple | dict) and len(value) <= _MANY:
        if any(value is outer for outer in inside):
            return
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from parts_in(item, f"{path}[{key!r}]", (*inside, value))


def held_parts(model: Any) -> Iterator[tuple[str, Any]]:
    """The optimizers and metrics in the attributes of classes of the user's own, each once.

    A second optimizer, as a GAN has it, is in nobody's list: Keras knows `model.optimizer` alone.

    Args:
        model: The model; its layers, at any depth, are looked at too.

    Returns:
        Pairs of a path (`"d_opt"`, `"layers[3].optimizers['a']"`) and a part.
    """
    seen: set[int] = set()
    for index, holder in enumerate(compat.flat_layers(model)):
        if type(holder).__module__.partition(".")[0] == "keras":
            continue
        prefix = "" if holder is model else f"layers[{index}]."
        # a name of the user's own before Keras's `_metrics`, which has the same
        for name in sorted(vars(holder), key=lambda name: name.startswith("_")):
            for path, part in parts_in(vars(holder)[name], prefix + name):
                if id(part) not in seen:
                    seen.add(id(part))
                    yield path, part


def not_kept(model: Any) -> list[str]:
    """A line for each optimizer of PyTorch's own in an attribute: it is made of no variables."""
    return [
        f"The state of `{name}` (a torch.optim.{type(value).__name__}) is not kept: use an "
        "optimizer of keras.optimizers."
        for holder in compat.flat_layers(model)
        for name, value in vars(holder).items()
        if any(kind.__module__.startswith("torch.optim") for kind in type(value).__mro__)
    ]


def optimizers(model: Any) -> dict[str, Any]:
    """Every optimizer by its path; `model.optimizer` is `"optimizer"`, whatever it may be."""
    found = {"optimizer": getattr(model, "optimizer", None)}
    for path, part in held_parts(model):
        if isinstance(part, keras.optimizers.Optimizer) and part is not found["optimizer"]:
            found[path] = part
    return found


def variable_groups(model: Any) -> dict[str, list[Any]]:
    """Every variable that a step of training may change, except what is reset in each epoch.

    Args:
        model: The model.

    Returns:
        Lists of variables: `"variables"` (the model's own: weights, non-trainable ones, seed
        generators), `"optimizer"`, and one for each part of `held_parts` that has others.
    """
    groups = {
        "variables": list(model.variables),
        "optimizer": optimizer_variables(getattr(model, "optimizer", None)),
    }
    known = {id(v) for group in groups.values() for v in group}
    known |= {id(v) for v in model.metrics_variables}
    for path, part in held_parts(model):
        is_optimizer = isinstance(part, keras.optimizers.Optimizer)
        variables = optimizer_variables(part) if is_optimizer else list(part.variables)
        if any(id(v) not in known for v in variables):
            groups[path] = [v for v in variables if id(v) not in known]
            known |= {id(v) for v in variables}
    return groups


def optimizer_variables(optimizer: Any) -> list[Any]:
    """Every variable of an optimizer, those that Keras does not track included.

    `LossScaleOptimizer` builds the optimizer inside it with tracking off, so that what a subclass
    makes in its own `build` (`_u_product` of `Nadam`) is in nobody's `variables`:
    https://github.com/keras-team/keras/blob/v3.15.1/keras/src/optimizers/loss_scale_optimizer.py
    """
    if optimizer is None:
        return []
    variables = list(optimizer.variables)
    inner = getattr(optimizer, "inner_optimizer", None)
    if inner is not None:
        known = {id(variable) for variable in variables}
        variables += [
            value
            for _, value in sorted(vars(inner).items())
            if isinstance(value, keras.Variable) and id(value) not in known
        ]
    return variables
