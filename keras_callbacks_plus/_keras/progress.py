"""How many batches of an epoch are done, from the number that Keras gives a batch hook."""

from __future__ import annotations

from keras_callbacks_plus._keras import compat

__all__ = ["batches_done"]


def batches_done(
    batch: int,
    *,
    steps: int | None,
    steps_per_execution: int,
    keras_version: tuple[int, ...] | None = None,
) -> int:
    """Batches of the epoch that are done when `on_train_batch_end(batch)` is called.

    With `steps_per_execution=4`, Keras 3.10 numbers the hook by the first batch of the four, and
    Keras 3.11 and later by the last, which may lie behind the end of the epoch: for 10 batches the
    hook gets 0, 4, 8 and 3, 7, 11
    (https://github.com/keras-team/keras/blob/v3.15.1/keras/src/trainers/epoch_iterator.py).

    Args:
        batch: The argument of the hook.
        steps: Batches in an epoch (`params["steps"]`), or `None` if unknown. Then the last answer
            of an epoch may be up to `steps_per_execution - 1` too high.
        steps_per_execution: Batches in one execution.
        keras_version: Keras's version, its first two numbers. Defaults to the installed one.

    Returns:
        The number of batches.
    """
    version = compat.keras_version() if keras_version is None else keras_version
    done = batch + (1 if version >= (3, 11) else steps_per_execution)
    return done if steps is None else min(done, steps)
