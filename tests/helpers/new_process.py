"""What a callback finds in another process: the files, and no memory of what was trained."""

from __future__ import annotations

from keras_callbacks_plus.callbacks import _model_series


def new_process():
    """Forgets which models this process has trained."""
    _model_series._TRAINED.clear()
