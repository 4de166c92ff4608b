"""The training data of a running `fit`: what of it is state, and what no state can bring back."""

from __future__ import annotations

from typing import Any

from keras_callbacks_plus._keras import compat
from keras_callbacks_plus._keras.fit_scope import FitScope
from keras_callbacks_plus._keras.plain_state import AttributeWatch

__all__ = ["InputState", "why_inexact"]

_PYTHON_INPUTS = ("PyDatasetAdapter", "GeneratorDataAdapter", "TorchDataLoaderAdapter")
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


class InputState:
    """What the data of a running `fit` remembers from epoch to epoch.

    Taken between two epochs only: within one, the data is replayed from the epoch's beginning, or
    told where to go on.

    Args:
        scope: The running `fit`, when all `on_train_begin` have run.
    """

    def __init__(self, scope: FitScope) -> None:
        self._iterator = scope.epoch_iterator
        source = compat.python_input(self._iterator)
        self._seekable = source if callable(getattr(source, "seek", None)) else None
        self._watches: dict[str, AttributeWatch] = {}
        if self._seekable is not None:
            return
        if compat.input_kind(self._iterator) == "PyDatasetAdapter":
            self._watches["dataset"] = AttributeWatch(source)
        elif source is not None:  # the torch generators of a DataLoader are attributes of these
            sampler = getattr(source, "batch_sampler", None)
            parts = {"loader": source, "sampler": getattr(sampler, "sampler", source.sampler)}
            self._watches = {name: _Generators(part) for name, part in parts.items()}

    @property
    def seekable(self) -> bool:
        """Whether the data can begin at any batch of any epoch."""
        return self._seekable is not None

    @property
    def drawn_ahead(self) -> bool:
        """Whether another thread may have drawn from Python's generators for batches to come.

        TensorFlow reads an input that is written in Python ahead of the loop.
        """
        kind = compat.input_kind(self._iterator)
        return (
            compat.backend() == "tensorflow" and kind in _PYTHON_INPUTS and self._seekable is None
        )

    def capture(self) -> tuple[dict[str, Any], list[str]]:
        """The state, and what could not be taken.

        Returns:
            A tree of JSON types and arrays, and a line for each attribute that could not be kept.
        """
        parts, lost = {}, []
        for name, watch in self._watches.items():
            parts[name], names = watch.changed()
            lost.extend(names)
        return {"adapter_epoch": compat.adapter_epoch(self._iterator), "parts": parts}, lost

    def restore(self, state: dict[str, Any], *, epochs_before: int) -> None:
        """Brings the data to the beginning of an epoch.

        Args:
            state: What `capture` returned there.
            epochs_before: Epochs that the run had done by then.
        """
        if state["adapter_epoch"] is not None:
            compat.set_adapter_epoch(self._iterator, state["adapter_epoch"])
        for name, values in state["parts"].items():
            if name in self._watches:
                self._watches[name].put_back(values)
        compat.advance_dataset(self._iterator, epochs_before)

    def seek(self, epoch: int, batch: int) -> None:
        """Makes data that can do so begin the coming epoch at a batch.

        Args:
            epoch: The epoch.
            batch: The number of its first batch.
        """
        if self._seekable is not None:
            self._seekable.seek(epoch, batch)


class _Generators(AttributeWatch):
    """Only the `generator` of a `DataLoader` or of its sampler."""

    def __init__(self, owner: Any) -> None:
        names = frozenset(vars(owner)) - {"generator"}
        super().__init__(owner, names)


def why_inexact(scope: FitScope) -> list[str]:
    """Why resuming could not be exact with the data of this run, if so.

    Args:
        scope: The running `fit`.

    Returns:
        A line for each cause, with the way to make it exact.
    """
    iterator = scope.epoch_iterator
    kind = compat.input_kind(iterator)
    source = compat.python_input(iterator)
    causes = []
    shuffled = compat.backend() == "tensorflow" and (
        kind == "ArrayDataAdapter" and compat.input_is_shuffled(iterator)
    )
    if (shuffled or kind == "TFDatasetAdapter") and compat.tensorflow_global_seed() is None:
        causes.append(
            "TensorFlow shuffles the data in an order that only its global seed fixes, and none is "
            "set: call keras.utils.set_random_seed(...) at the top of the script, or pass "
            f"{_RESUMABLE}."
        )
    if kind == "PyDatasetAdapter" and _has_workers(source):
        causes.append(
            f"The input ({type(source).__qualname__}) has several workers, which run on over the "
            f"end of an epoch in an order that is not kept: make it with workers=1, or pass "
            f"{_RESUMABLE}."
        )
    if kind == "TorchDataLoaderAdapter" and getattr(source, "persistent_workers", False):
        causes.append(
            "The workers of the DataLoader outlive an epoch, and their random state is not kept: "
            "make it with persistent_workers=False."
        )
    if kind not in _REPLAYED:
        causes.append(
            f"The input ({kind}) may hold state of its own (its position, its order) that is not "
            f"kept: pass arrays, a tf.data.Dataset, a PyDataset, or {_RESUMABLE}."
        )
    elif iterator.steps_per_epoch is not None:
        causes.append(
            "With `steps_per_epoch` one pass over the data spans several epochs, and its position "
            "is not kept: leave `steps_per_epoch` out."
        )
    return causes


def _has_workers(source: Any) -> bool:
    return source.workers > 1 or bool(source.workers and source.use_multiprocessing)
