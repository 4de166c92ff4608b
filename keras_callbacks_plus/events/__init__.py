"""Metric writing: scalars into TensorBoard's event files, with neither TensorFlow nor Keras."""

from __future__ import annotations

from keras_callbacks_plus.events._folder import (
    holds_events_from as holds_events_from,
)
from keras_callbacks_plus.events._folder import (
    trim as trim,
)
from keras_callbacks_plus.events.tensorboard import EventFileWriter as EventFileWriter
from keras_callbacks_plus.events.writer import FileSystem as FileSystem
from keras_callbacks_plus.events.writer import MultiWriter as MultiWriter
from keras_callbacks_plus.events.writer import ScalarWriter as ScalarWriter

__all__ = [
    "EventFileWriter",
    "FileSystem",
    "MultiWriter",
    "ScalarWriter",
    "holds_events_from",
    "trim",
]
