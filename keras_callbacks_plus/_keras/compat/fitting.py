"""The running `fit`: its frame, its loop, its hooks, and how it begins and ends."""

from __future__ import annotations

import sys
from typing import Any

from keras_callbacks_plus._keras.compat.versions import backend


def running_fit(callback: Any) -> tuple[Any, Any, Any] | None:
    """The model, callback list and epoch iterator of the `fit` that calls `callback` now.

    Keras passes none of them to a callback; they are locals of `Trainer.fit`
    (https://github.com/keras-team/keras/blob/v3.15.1/keras/src/backend/jax/trainer.py), whose
    frame is above that of `on_train_begin`.
    Gives the three, or `None` where no `fit` is among the calling frames.
    """
    import keras

    frame = sys._getframe(1)
    for _ in range(24):
        owner = frame.f_locals.get("self")
        if frame.f_code.co_name == "fit" and isinstance(owner, keras.Model):
            callback_list = frame.f_locals.get("callbacks")
            iterator = frame.f_locals.get("epoch_iterator")
            if (
                isinstance(callback_list, keras.callbacks.CallbackList)
                and iterator is not None
                and any(member is callback for member in callback_list.callbacks)
            ):
                return owner, callback_list, iterator
        if frame.f_back is None:
            return None
        frame = frame.f_back
    return None


def fit_arguments(model: Any) -> dict[str, Any]:
    """What `fit` was called with, while it is among the calling frames; see `running_fit`.

    The validation data is in `val_x`, `val_y` and `val_sample_weight`, as `fit` has taken it apart.
    """
    frame = sys._getframe(1)
    while frame.f_code.co_name != "fit" or frame.f_locals.get("self") is not model:
        if frame.f_back is None:
            return {}
        frame = frame.f_back
    given = frame.f_locals
    names = frame.f_code.co_varnames[: frame.f_code.co_argcount]
    return {name: given.get(name) for name in (*names[1:], *_VALIDATION)}


_VALIDATION = ("val_x", "val_y", "val_sample_weight")


def validates(model: Any, epoch: int, frequency: Any) -> bool:
    """Whether `fit` validates at the end of an epoch (`Trainer._should_eval`).

    https://github.com/keras-team/keras/blob/v3.15.1/keras/src/trainers/trainer.py
    """
    return bool(model._should_eval(epoch, frequency))


def make_validation_iterator(model: Any, epoch_iterator: Any, arguments: dict[str, Any]) -> Any:
    """Makes the iterator over the validation data now that `fit` makes in its first validation.

    Making it may draw random numbers, and read batches.
    https://github.com/keras-team/keras/blob/v3.15.1/keras/src/backend/tensorflow/trainer.py
    """
    more: dict[str, Any] = {}
    if backend() == "tensorflow":
        more["distribute_strategy"] = model.distribute_strategy
    model._eval_epoch_iterator = type(epoch_iterator)(
        x=arguments["val_x"],
        y=arguments["val_y"],
        sample_weight=arguments["val_sample_weight"],
        batch_size=arguments["validation_batch_size"] or arguments["batch_size"],
        steps_per_epoch=arguments["validation_steps"],
        steps_per_execution=model.steps_per_execution,
        shuffle=False,
        **more,
    )
    return model._eval_epoch_iterator


ENUMERATION = "_enumerate_iterator"
"""Method of Keras's epoch iterator that gives one item for each execution of an epoch, the data's
iterator last; looked up on the instance at the beginning of every epoch:
https://github.com/keras-team/keras/blob/v3.15.1/keras/src/trainers/epoch_iterator.py
"""


NEW_PASS = "_get_iterator"
"""Method of Keras's epoch iterator that gives what a pass over the data iterates over."""


def flush_batch_hooks(callback_list: Any) -> None:
    """Waits for batch hooks in Keras's thread pool (`CallbackList._flush_futures`).

    https://github.com/keras-team/keras/blob/v3.15.1/keras/src/callbacks/callback_list.py: on JAX
    and PyTorch, `on_train_batch_end` runs in other threads where no callback needs it at once.
    """
    getattr(callback_list, "_flush_futures", lambda: None)()


def is_end_of_data(error: BaseException) -> bool:
    """Whether an exception is how an input says that it has no more batches.

    TensorFlow's iterators raise `OutOfRangeError`, which its `catch_stop_iteration` handles:
    https://github.com/keras-team/keras/blob/v3.15.1/keras/src/backend/tensorflow/trainer.py
    """
    return isinstance(error, StopIteration) or type(error).__name__ == "OutOfRangeError"


def handles_end_of_data(hook: str) -> bool:
    """Whether `fit` takes the end of the data from a hook for the end of an epoch.

    It does where the hooks of batches run inside its `catch_stop_iteration`, which on PyTorch they
    do not:
    https://github.com/keras-team/keras/blob/v3.15.1/keras/src/backend/torch/trainer.py

    Args:
        hook: The name of a hook.
    """
    return backend() != "torch" and hook.startswith(("on_train_batch_", "on_test_batch_"))


def recover_state_after_failure(model: Any) -> None:
    """On JAX, attaches the training state to the model again (public `jax_state_sync`)."""
    if backend() == "jax" and hasattr(model, "jax_state_sync"):
        model.jax_state_sync()


def skip_next_finalize(model: Any) -> None:
    """Lets the next `optimizer.finalize_variable_values` of a failed JAX `fit` pass without effect.

    Keras's JAX `fit` calls it in a `finally`, after an exception too, which would write the moving
    averages (`use_ema`) over the weights that a callback has just restored:
    https://github.com/keras-team/keras/blob/v3.15.1/keras/src/backend/jax/trainer.py
    """
    optimizer = getattr(model, "optimizer", None)
    if backend() != "jax" or not getattr(optimizer, "use_ema", False):
        return

    def pass_once(_trainable_variables: Any) -> None:
        object.__delattr__(optimizer, "finalize_variable_values")

    object.__setattr__(optimizer, "finalize_variable_values", pass_once)


def set_initial_epoch(model: Any, epoch: int | None) -> None:
    """Makes the running `fit` start at `epoch`; `None` makes the next one start where it is told.

    `Model._initial_epoch` is the hook that Keras's own BackupAndRestore uses, and never clears:
    https://github.com/keras-team/keras/blob/v3.15.1/keras/src/callbacks/backup_and_restore.py
    """
    model._initial_epoch = epoch


def unused_hook(method: Any) -> Any:
    """Marks an overridden batch hook as one that does nothing.

    Keras gives up asynchronous dispatch of batch hooks for the whole list as soon as one callback
    overrides one, and tells by this mark whether it does:
    https://github.com/keras-team/keras/blob/v3.15.1/keras/src/utils/python_utils.py
    """
    method._is_default = True
    return method


def print_msg(message: str) -> None:
    """Prints a line as Keras does, so that `keras.config.disable_interactive_logging()` holds.

    https://github.com/keras-team/keras/blob/v3.15.1/keras/src/utils/io_utils.py
    """
    from keras.src.utils import io_utils

    io_utils.print_msg(message)
