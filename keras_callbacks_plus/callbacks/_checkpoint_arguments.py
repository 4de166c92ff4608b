"""Whether `ModelCheckpoint`'s arguments make sense together; if not, what to write instead."""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Mapping
from typing import Any

from keras_callbacks_plus.callbacks._checkpoint_name import CheckpointName
from keras_callbacks_plus.errors import InvalidArgumentError
from keras_callbacks_plus.policies import (
    BestN,
    KeepAll,
    LatestN,
    Monitor,
    RetentionPolicy,
    most_kept,
    needs_monitor,
    read_amount,
)

__all__ = [
    "check_together",
    "policy_of",
    "ranks",
    "refuse_removed",
    "refuse_twins",
]

_REMOVED = {
    "options": "leave it out: it was TensorFlow's, and files are written by a thread of our own",
    "load_weights_on_restart": "use `BackupAndRestore`, which resumes the whole training",
}


def refuse_removed(arguments: Mapping[str, Any]) -> None:
    """Raises for arguments of older Keras versions, with what to write instead.

    Args:
        arguments: Keyword arguments that are not known.

    Raises:
        InvalidArgumentError: For one that was removed from Keras.
        TypeError: For any other, as Python does.
    """
    for name, value in arguments.items():
        fix = _instead_of_period(value) if name == "period" else _REMOVED.get(name)
        if fix is None:
            raise TypeError(f"ModelCheckpoint() got an unexpected keyword argument {name!r}")
        raise InvalidArgumentError(
            name, value, "an argument of Keras 3", f"{fix[0].upper()}{fix[1:]}."
        )


def _instead_of_period(value: object) -> str:
    period = f"{value} epochs"
    if read_amount(period) is None or isinstance(value, bool):
        period = "5 epochs"
    return f'write `save_freq="{period}"` (or leave `period` out for every epoch)'


def check_together(callback: Any, name: CheckpointName, unit: str) -> None:
    """Raises `InvalidArgumentError` for arguments that do not fit one another.

    Args:
        callback: A `ModelCheckpoint` with its arguments as attributes.
        name: Its `filepath`, parsed.
        unit: What its `save_freq` counts.
    """
    if unit == "epochs" and name.has("batch"):
        raise InvalidArgumentError(
            "filepath",
            callback.filepath,
            "a name without `{batch}`, as `save_freq` counts epochs",
            "Leave `{batch}` out, or write save_freq=500 to save by batches.",
        )
    for argument, default in (("min_delta", 0.0), ("initial_value_threshold", None)):
        value = getattr(callback, argument)
        if not callback.save_best_only and value != default:
            raise InvalidArgumentError(
                argument,
                value,
                "given with `save_best_only=True`; without it, every model is good enough",
                f"Write save_best_only=True, too, or leave `{argument}` out.",
            )
    most = _most_kept(callback.keep, callback.max_to_keep)
    if name.is_fixed and most > 1:
        what = f"keep={callback.keep!r}" if callback.max_to_keep is None else f"{most} files"
        raise InvalidArgumentError(
            "filepath",
            callback.filepath,
            f"a name with a placeholder, to keep {what}: one name is one file",
            'Put the epoch into it, as in "model-{epoch:02d}.keras".',
        )


def _most_kept(keep: Any, max_to_keep: Any) -> float:
    """How many files are kept at most, once it is clear that this is said once, and well."""
    if keep is not None and max_to_keep is not None:
        raise InvalidArgumentError(
            "keep",
            keep,
            "given without `max_to_keep`, as the two say the same thing",
            f"Leave out `max_to_keep={max_to_keep}`, or `keep`.",
        )
    if keep is not None and (isinstance(keep, type) or not isinstance(keep, RetentionPolicy)):
        fix = "For example `policies.BestN(3) | policies.LatestN(1)`."
        if isinstance(keep, type):
            fix = f"Write `{keep.__name__}(...)`, with its arguments. {fix}"
        raise InvalidArgumentError("keep", keep, "a retention policy", fix)
    if max_to_keep is not None:
        whole = isinstance(max_to_keep, numbers.Integral) and not isinstance(max_to_keep, bool)
        if not whole or max_to_keep < 1:
            raise InvalidArgumentError(
                "max_to_keep", max_to_keep, "a positive integer or None", "Write 3, for one."
            )
        return int(max_to_keep)
    if keep is None or isinstance(keep, KeepAll):
        return 1  # of each name, as in Keras: a new file replaces the old one
    return most_kept(keep)


def refuse_twins(callback: Any, name: CheckpointName, others: Iterable[object]) -> None:
    """Raises `InvalidArgumentError` for two callbacks that keep the same files.

    Args:
        callback: The callback that is being started.
        name: Which files it keeps.
        others: Which files the others of the `fit` keep; what is no name does not count.
    """
    for other in others:
        if isinstance(other, CheckpointName) and other.identity == name.identity:
            raise InvalidArgumentError(
                "filepath",
                callback.filepath,
                f"another one for each {type(callback).__name__} of a `fit`",
                "Give each files of its own, or use one callback with "
                "`keep=policies.BestN(1) | policies.LatestN(1)`.",
            )


def ranks(keep: RetentionPolicy | None, best_only: bool) -> bool:
    """Whether the callback's metric plays a part in what is kept.

    Args:
        keep: The argument.
        best_only: `save_best_only`.
    """
    return best_only or (keep is not None and needs_monitor(keep))


def policy_of(
    keep: RetentionPolicy | None, max_to_keep: int | None, best_only: bool, monitor: Monitor | None
) -> RetentionPolicy:
    """The retention policy that the arguments say.

    Args:
        keep: The argument; a policy that ranks takes `monitor` where it has none.
        max_to_keep: The argument.
        best_only: Whether the number is of the best, or of the latest.
        monitor: The comparison; needed where the metric plays a part.
    """
    if keep is not None:
        bind = getattr(keep, "bind", None)
        bound: RetentionPolicy = bind(monitor) if callable(bind) and monitor is not None else keep
        return bound
    if max_to_keep is None:
        return KeepAll()
    return BestN(max_to_keep, monitor) if best_only else LatestN(max_to_keep)
