"""`resumable`: arrays in an order that is a function of seed, epoch and position alone."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_callbacks_plus.errors import InvalidArgumentError

__all__ = ["ResumableData", "resumable"]


def resumable(
    x: Any,
    y: Any = None,
    *,
    batch_size: int = 32,
    seed: int = 0,
    shuffle: bool = True,
    sample_weight: Any = None,
) -> ResumableData:
    """Wraps arrays for `fit`, so that a training can go on at any batch of any epoch.

    Use it where `BackupAndRestore` says that the order of the data cannot be kept, or where reading
    again the batches that are done takes too long. The order of an epoch depends on the seed and
    the number of the epoch, not on any generator of the process; nothing that the script draws, and
    no `keras.utils.set_random_seed`, changes it. A resumed run begins at the batch itself.

    With `BackupAndRestore` the epochs are those of `fit`. Without it, each `fit` counts from 0.
    `fit` shuffles nothing on top of it, whatever its own `shuffle` says. `batch_size`, `y` and
    `sample_weight` are given here, and not to `fit`; `class_weight` to `fit`.

    Args:
        x: Array, or a list or dict of arrays, of equal first dimension.
        y: The same, or `None`. Defaults to `None`.
        batch_size: Integer, samples in a batch; the last one of an epoch may have fewer.
            Defaults to `32`.
        seed: Non-negative integer. Defaults to `0`.
        shuffle: Boolean, whether each epoch has an order of its own. Defaults to `True`.
        sample_weight: Array with a weight for each sample, or `None`. Defaults to `None`.

    Returns:
        A `keras.utils.PyDataset`. It must not be given several workers.

    Raises:
        InvalidArgumentError: If an argument is not acceptable.

    Example:

    >>> import numpy as np
    >>> import keras_callbacks_plus as kcp
    >>> data = kcp.resumable(np.arange(6), batch_size=2, seed=3)
    >>> data.seek(epoch=5, batch=0)
    >>> [batch[0].tolist() for batch in data]
    [[5, 0], [2, 4], [1, 3]]
    >>> data.seek(epoch=5, batch=2)
    >>> next(iter(data))[0].tolist()
    [1, 3]
    """
    return ResumableData(x, y, batch_size, seed, shuffle, sample_weight)


class ResumableData(keras.utils.PyDataset):
    """What `resumable` returns.

    Keras asks for batches by an index that it may have shuffled. Within an epoch the index is not
    looked at: the batches come in the order of the epoch, one after the other.
    """

    def __init__(
        self, x: Any, y: Any, batch_size: int, seed: int, shuffle: bool, sample_weight: Any
    ) -> None:
        super().__init__()
        parts = [part for part in (x, y, sample_weight) if part is not None]
        if sample_weight is not None and y is None:
            raise InvalidArgumentError(
                "sample_weight", "weights without `y`", "None where there is no `y`", "Pass `y`."
            )
        self._parts = tuple(keras.tree.map_structure(np.asarray, part) for part in parts)
        self._samples = _samples(self._parts)
        self._batch_size = _integer("batch_size", batch_size, 1, "Write 32.")
        self._seed = _integer("seed", seed, 0, "Write 0.")
        self._shuffle = _boolean("shuffle", shuffle, 'Write True; there is no "batch" here.')
        self._batches = -(-self._samples // self._batch_size)
        self._epoch = 0
        self._position = 0
        self._sought: tuple[int, int] | None = None
        self._left = self._batches
        self._order: Any = None
        self._order_of: int | None = None
        self._within_epoch = False

    @property
    def num_batches(self) -> int:
        """Batches in an epoch; in one that begins later, those that are left of it."""
        return self._left

    @property
    def parts(self) -> tuple[Any, ...]:
        """The arrays: `x`, and `y` and the sample weights where there are any."""
        return self._parts

    @property
    def parameters(self) -> dict[str, str]:
        """What the order of the samples is made from."""
        facts = {"samples": self._samples, "batch_size": self._batch_size, "seed": self._seed}
        return {name: str(value) for name, value in {**facts, "shuffle": self._shuffle}.items()}

    def seek(self, epoch: int, batch: int) -> None:
        """Makes the next epoch the one of that number, and begin at that batch.

        Args:
            epoch: Integer, number of the epoch.
            batch: Integer, number of its first batch.
        """
        self._sought = (int(epoch), int(batch))
        self._epoch, self._position = self._sought
        self._left = self._batches - self._position

    def on_epoch_begin(self) -> None:
        """Keras's: an epoch begins."""
        self._position = 0 if self._sought is None else self._sought[1]
        self._sought = None
        self._within_epoch = True

    def on_epoch_end(self) -> None:
        """Keras's: an epoch has ended, or (before the first, and after a peek) a `fit` begins."""
        done = self._within_epoch and self._position >= self._batches
        self._epoch = self._epoch + 1 if done else 0
        self._position, self._left = 0, self._batches
        self._within_epoch = False

    def __iter__(self) -> Any:
        """The batches that are left of the epoch."""
        for number in range(self._position, self._batches):
            yield self._batch(number)

    def __getitem__(self, index: int) -> Any:
        """The next batch of the epoch; outside of an epoch, the one of that number."""
        if not self._within_epoch:
            return self._batch(index)
        number, self._position = self._position, self._position + 1
        return self._batch(number)

    def _batch(self, number: int) -> Any:
        start = number * self._batch_size
        if not 0 <= start < self._samples:
            raise IndexError(f"batch {number} of {self._batches}")
        rows: Any = slice(start, start + self._batch_size)
        if self._shuffle:
            if self._order_of != self._epoch:
                generator = np.random.default_rng([self._seed, self._epoch])
                self._order = generator.permutation(self._samples)
                self._order_of = self._epoch
            rows = self._order[rows]
        return tuple(keras.tree.map_structure(lambda a: a[rows], part) for part in self._parts)


def _samples(parts: tuple[Any, ...]) -> int:
    shapes = [array.shape for array in keras.tree.flatten(parts)]
    sizes = {shape[0] if shape else 0 for shape in shapes}
    if len(sizes) == 1 and 0 not in sizes:
        return int(sizes.pop())
    raise InvalidArgumentError(
        "x",
        shapes,
        "arrays of one and the same first dimension, at least 1",
        "Give `x`, `y` and `sample_weight` one row for each sample.",
    )


def _integer(argument: str, value: Any, least: int, fix: str) -> int:
    if isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= least:
        return int(value)
    raise InvalidArgumentError(argument, value, f"an integer of at least {least}", fix)


def _boolean(argument: str, value: Any, fix: str) -> bool:
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise InvalidArgumentError(argument, value, "a Boolean", fix)
