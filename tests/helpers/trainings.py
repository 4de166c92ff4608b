"""What a callback finds in another process: the files, and no memory of what was trained."""

from __future__ import annotations

from keras_callbacks_plus.callbacks import _model_series


def forget_what_was_trained():
    """From now on, this process has trained no model yet."""
    _model_series._TRAINED.clear()
