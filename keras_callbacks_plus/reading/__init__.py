"""Checkpoints read back: which is best, which is newest, are they whole, and into a model.

Everything but `load_model` and `load_weights` works where Keras is not installed.
"""

from keras_callbacks_plus.reading._checkpoint import Checkpoint as Checkpoint
from keras_callbacks_plus.reading._checkpoints import Checkpoints as Checkpoints
from keras_callbacks_plus.reading._checkpoints import checkpoints as checkpoints
from keras_callbacks_plus.reading._table import Table as Table
from keras_callbacks_plus.reading._table import in_bytes as in_bytes
from keras_callbacks_plus.reading._table import table_of as table_of

__all__ = ["Checkpoint", "Checkpoints", "Table", "checkpoints", "in_bytes", "table_of"]
