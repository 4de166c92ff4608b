"""What of a run's data no state can bring back, told before it matters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from keras_callbacks_plus._keras import compat
from keras_callbacks_plus._keras.fit_scope import FitScope
from keras_callbacks_plus._keras.resumable_data import ResumableData

__all__ = ["not_known", "why_inexact"]

_REPLAYED = (
    "ArrayDataAdapter",
    "TFDatasetAdapter",
    "PyDatasetAdapter",
    "TorchDataLoaderAdapter",
    "GrainDatasetAdapter",
)
_RESUMABLE = (
    "kcp.resumable(x, y, batch_size=..., seed=...), whose order is a function of seed and epoch"
)


def why_inexact(scope: FitScope, arguments: dict[str, Any]) -> list[str]:
    """Why resuming could not be exact with the data of this run, if so.

    Args:
        scope: The running `fit`.
        arguments: What `fit` was called with.

    Returns:
        A line for each cause, with the way to make it exact.
    """
    return [*_of_training(scope), *_of_validation(arguments)]


def not_known(line: str) -> str:
    """What to say of an attribute of the data that may change in a way which nobody can see."""
    return (
        f"It is not known whether {line}, of the data, keeps state that changes: hold the state in "
        f"plain data or in a random generator, draw it anew from seed and epoch, or pass "
        f"{_RESUMABLE}."
    )


def _of_training(scope: FitScope) -> Iterator[str]:
    iterator = scope.epoch_iterator
    kind = compat.input_kind(iterator)
    source = compat.python_input(iterator)
    shuffled = compat.backend() == "tensorflow" and (
        kind == "ArrayDataAdapter" and compat.input_is_shuffled(iterator)
    )
    if (shuffled or kind == "TFDatasetAdapter") and compat.tensorflow_global_seed() is None:
        yield (
            "TensorFlow shuffles the data in an order that only its global seed fixes, and none is "
            "set: call keras.utils.set_random_seed(...) at the top of the script, or pass "
            f"{_RESUMABLE}."
        )
    dataset = compat.tensorflow_dataset(iterator)
    if dataset is not None:
        in_parts = iterator.steps_per_epoch is not None
        yield from map(_doubtful, compat.dataset_doubts(dataset, from_its_beginning=in_parts))
    if kind == "PyDatasetAdapter" and _has_workers(source):
        yield (
            f"The input ({type(source).__qualname__}) has several workers, which run on over the "
            f"end of an epoch in an order that is not kept: make it with workers=1, or pass "
            f"{_RESUMABLE}."
        )
    if kind == "TorchDataLoaderAdapter" and getattr(source, "persistent_workers", False):
        yield (
            "The workers of the DataLoader outlive an epoch, and their random state is not kept: "
            "make it with persistent_workers=False."
        )
    if kind not in _REPLAYED:
        yield (
            f"The input ({kind}) may hold state of its own (its position, its order) that is not "
            f"kept: pass arrays, a tf.data.Dataset, a PyDataset, or {_RESUMABLE}."
        )
    elif iterator.steps_per_epoch is not None:
        if isinstance(source, ResumableData):
            yield (
                "With `steps_per_epoch`, kcp.resumable(...) begins anew in each epoch: leave "
                "`steps_per_epoch` out."
            )
        elif compat.backend() == "tensorflow" and source is not None:
            yield (
                "With `steps_per_epoch` one pass over the data spans several epochs, and "
                "TensorFlow reads data that is written in Python ahead of them: leave "
                f"`steps_per_epoch` out, or pass a tf.data.Dataset or {_RESUMABLE}."
            )


def _of_validation(arguments: dict[str, Any]) -> Iterator[str]:
    data = arguments.get("val_x")
    if data is None:
        return
    if compat.is_tensorflow_dataset(data):
        for doubt in compat.dataset_doubts(data):
            yield _doubtful(doubt, "The validation data (tf.data)")
    elif hasattr(data, "__next__"):
        yield (
            "The validation data is a generator, whose position is not kept: pass arrays, a "
            "tf.data.Dataset or a PyDataset."
        )
    if getattr(data, "persistent_workers", False):
        yield (
            "The workers of the validation data's DataLoader outlive a validation, and their "
            "random state is not kept: make it with persistent_workers=False."
        )


def _doubtful(doubt: str, what: str = "The data (tf.data)") -> str:
    return (
        f"{what} has {doubt}: use tf.random.stateless_* or reading that is a function of the data "
        f"alone, do the augmentation in the model, or pass {_RESUMABLE}."
    )


def _has_workers(source: Any) -> bool:
    return source.workers > 1 or bool(source.workers and source.use_multiprocessing)
