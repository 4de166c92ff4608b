"""The private parts of Keras's saving."""

from __future__ import annotations

from typing import Any, NamedTuple

from keras_callbacks_plus.errors import UnsupportedKerasError


class SavingNames(NamedTuple):
    """What `model.save` is made of; see `saving_names`."""

    save_state: Any
    weights_store: Any
    asset_store: Any
    serialize: Any


def saving_names() -> SavingNames:
    """The private parts of Keras's saving, to let each part of a model write to our memory.

    `model.save` writes to a file only, and holds up to 2.5 copies of the state while it does.
    https://github.com/keras-team/keras/blob/v3.15.1/keras/src/saving/saving_lib.py
    Raises `UnsupportedKerasError` if this Keras saves in another way.
    """
    try:
        from keras.src.saving import saving_lib as lib

        return SavingNames(
            lib._save_state, lib.H5IOStore, lib.DiskIOStore, lib._serialize_model_as_json
        )
    except (ImportError, AttributeError) as error:
        raise UnsupportedKerasError(f"This Keras saves in another way: {error}.") from error
