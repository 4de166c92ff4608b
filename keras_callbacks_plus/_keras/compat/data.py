"""What feeds a `fit`: Keras's data adapters."""

from __future__ import annotations

from typing import Any

from keras_callbacks_plus._keras.compat.versions import backend


def adapter_epoch(epoch_iterator: Any) -> int | None:
    """The counter that seeds the order of shuffled arrays in Keras >= 3.16; `None` before.

    https://github.com/keras-team/keras/blob/master/keras/src/trainers/data_adapters/array_data_adapter.py
    """
    epoch = getattr(epoch_iterator.data_adapter, "_epoch", None)
    return None if epoch is None else int(epoch)


def set_adapter_epoch(epoch_iterator: Any, epoch: int) -> None:
    """Puts back what `adapter_epoch` returned."""
    epoch_iterator.data_adapter._epoch = epoch


def advance_dataset(epoch_iterator: Any, epochs: int) -> None:
    """Brings a `tf.data` input to where it is after `epochs` epochs.

    The order of the k-th pass over a dataset that reshuffles depends on how many iterators came
    before it. Keras's TensorFlow loop makes two per epoch where the length is known
    (https://github.com/keras-team/keras/blob/v3.15.1/keras/src/trainers/epoch_iterator.py).
    """
    adapter = epoch_iterator.data_adapter
    dataset = getattr(adapter, "_dataset", None)
    if type(adapter).__name__ != "TFDatasetAdapter" or dataset is None:
        return
    twice = backend() == "tensorflow" and epoch_iterator.num_batches is not None
    for _ in range(epochs * (2 if twice else 1)):
        iter(dataset)


def python_input(epoch_iterator: Any) -> Any:
    """The `PyDataset` or PyTorch `DataLoader` behind the training data, or `None`."""
    adapter = epoch_iterator.data_adapter
    found = getattr(adapter, "py_dataset", None)
    return getattr(adapter, "_dataloader", None) if found is None else found


def input_kind(epoch_iterator: Any) -> str:
    """Keras's name for the adapter of the training data: `"ArrayDataAdapter"`, ..."""
    return type(epoch_iterator.data_adapter).__name__


def input_is_shuffled(epoch_iterator: Any) -> bool:
    """Whether Keras itself shuffles the (array) input."""
    return bool(getattr(epoch_iterator.data_adapter, "_shuffle", False))
