"""The texts of a `.keras` file, of which only what may have changed is made again at each save."""

from __future__ import annotations

import contextlib
import json
from datetime import datetime
from typing import Any, NamedTuple

from keras_callbacks_plus._keras import compat
from keras_callbacks_plus._keras.configuration_watch import CannotWatchError, ConfigurationWatch

__all__ = ["ModelDescription"]

_DATE = "date_saved"
_DATE_FORMAT = "%Y-%m-%d@%H:%M:%S"
_TRIES = 3  # of a model whose layers change between any two saves


class _Known(NamedTuple):
    """What was made, and can be used again while the watch sees no change."""

    watch: ConfigurationWatch
    layers: str  # the configuration up to what `compile` was given
    metadata: dict[str, Any]


class ModelDescription:
    """The configuration and the metadata of one model, as `model.save` writes them.

    Keras makes the configuration of all layers in about 0.1 to 0.4 ms each, while `fit` waits. What
    `compile` was given is asked for at each time, as it holds the learning rate; the layers only
    where they may have changed, or may have without a trace (see `ConfigurationWatch`).

    Args:
        model: The model.

    Example:

    >>> import keras
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="head")])
    >>> config, metadata = ModelDescription(model).texts()
    >>> '"name": "head"' in config and '"keras_version"' in metadata
    True
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._known: _Known | None = None
        self._tries = _TRIES

    def texts(self) -> tuple[str, str]:
        """`config.json` and `metadata.json` of the model as it is now."""
        known = self._known
        if known is not None and known.watch.is_unchanged():
            self._tries = _TRIES
            now = datetime.now().strftime(_DATE_FORMAT)
            return known.layers + self._compiled(), json.dumps({**known.metadata, _DATE: now})
        self._known = None
        config, metadata = compat.saving_names().serialize(self._model)
        if self._tries:
            self._tries -= 1
            self._remember(config, metadata)
        return config, metadata

    def _remember(self, config: str, metadata: str) -> None:
        compiled, facts = self._compiled(), json.loads(metadata)
        # else this Keras, or this model, puts its texts together in another way
        is_known = config.endswith(compiled) and _is_date(facts.get(_DATE))
        if is_known and not compat.holds_values(config[: len(config) - len(compiled)]):
            with contextlib.suppress(CannotWatchError):
                watch = ConfigurationWatch(self._model)
                self._known = _Known(watch, config[: len(config) - len(compiled)], facts)
        if self._known is None:
            self._tries = 0

    def _compiled(self) -> str:
        """The end of the configuration: what `compile` was given."""
        config = compat.compile_config(self._model)
        return "}" if config is None else f', "compile_config": {json.dumps(config)}}}'


def _is_date(value: Any) -> bool:
    with contextlib.suppress(TypeError, ValueError):
        datetime.strptime(value, _DATE_FORMAT)
        return True
    return False
