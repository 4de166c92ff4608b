"""What feeds a `fit`: Keras's data adapters."""

from __future__ import annotations

import sys
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


def iterators_of(epoch_iterator: Any, passes: int) -> int:
    """How many iterators Keras's loop makes for a number of passes over the data.

    On TensorFlow it makes two per pass where the length is known:
    https://github.com/keras-team/keras/blob/v3.15.1/keras/src/trainers/epoch_iterator.py
    """
    length, steps = epoch_iterator._num_batches, epoch_iterator.steps_per_epoch
    whole = length is not None and (steps is None or steps >= length)
    return passes * (2 if backend() == "tensorflow" and whole else 1)


def advance_dataset(epoch_iterator: Any, iterators: int) -> None:
    """Brings a `tf.data` input to where it is after a number of iterators were made over it.

    The order of the k-th pass over a dataset that reshuffles depends on how many came before it.
    """
    dataset = tensorflow_dataset(epoch_iterator)
    for _ in range(iterators if dataset is not None else 0):
        iter(dataset)


def batches_taken(epoch_iterator: Any) -> int | None:
    """How many batches were taken from the iterator that goes on in the next epoch, if one does.

    https://github.com/keras-team/keras/blob/v3.15.1/keras/src/trainers/epoch_iterator.py
    """
    if epoch_iterator.steps_per_epoch is None or epoch_iterator._current_iterator is None:
        return None
    return int(epoch_iterator._steps_seen)


def note_batches_taken(epoch_iterator: Any, batches: int) -> None:
    """Counts batches that were taken from the iterator besides the loop."""
    epoch_iterator._steps_seen += batches


def tensorflow_dataset(epoch_iterator: Any) -> Any:
    """The `tf.data.Dataset` behind the data, or `None`."""
    adapter = epoch_iterator.data_adapter
    return adapter._dataset if type(adapter).__name__ == "TFDatasetAdapter" else None


def python_input(epoch_iterator: Any) -> Any:
    """The `PyDataset` or PyTorch `DataLoader` behind the training data, or `None`."""
    adapter = epoch_iterator.data_adapter
    found = getattr(adapter, "py_dataset", None)
    return getattr(adapter, "_dataloader", None) if found is None else found


def grain_dataset(epoch_iterator: Any) -> Any:
    """The grain dataset or loader behind the training data, or `None`."""
    adapter = epoch_iterator.data_adapter
    of_grain = type(adapter).__name__ == "GrainDatasetAdapter"
    return getattr(adapter, "_dataset", None) if of_grain else None


def is_python_input(data: Any) -> bool:
    """Whether data given to `fit` is a `PyDataset` or a PyTorch `DataLoader`."""
    import keras

    torch = sys.modules.get("torch")
    loader = getattr(getattr(getattr(torch, "utils", None), "data", None), "DataLoader", ())
    return isinstance(data, (keras.utils.PyDataset, loader))


def is_tensorflow_dataset(data: Any) -> bool:
    """Whether data given to `fit` is a `tf.data.Dataset`; TensorFlow is never imported here."""
    tensorflow = sys.modules.get("tensorflow")
    kind = getattr(getattr(tensorflow, "data", None), "Dataset", ())
    return isinstance(data, kind)


def input_kind(epoch_iterator: Any) -> str:
    """Keras's name for the adapter of the training data: `"ArrayDataAdapter"`, ..."""
    return type(epoch_iterator.data_adapter).__name__


def input_is_shuffled(epoch_iterator: Any) -> bool:
    """Whether Keras itself shuffles the (array) input."""
    return bool(getattr(epoch_iterator.data_adapter, "_shuffle", False))


def batch_spec(epoch_iterator: Any) -> Any:
    """Shapes and types of a batch as TensorFlow's loop gets it; `None` where they are not known.

    https://github.com/keras-team/keras/blob/v3.15.1/keras/src/backend/tensorflow/trainer.py
    """
    import keras

    spec = getattr(getattr(epoch_iterator, "_distributed_dataset", None), "element_spec", None)
    leaves = [] if spec is None else keras.tree.flatten(spec)
    known = [type(s).__name__ == "TensorSpec" and s.shape.rank is not None for s in leaves]
    return spec if leaves and all(known) else None
