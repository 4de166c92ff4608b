"""A model as the file that Keras itself would write, taken in one memory copy and written later."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import warnings
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import keras

from keras_callbacks_plus._keras import compat, host_view, snapshot
from keras_callbacks_plus._keras.file_contents import (
    Archive,
    Buffers,
    Contents,
    SavedFile,
    WeightsFile,
    WeightsPlan,
)
from keras_callbacks_plus._keras.model_description import ModelDescription
from keras_callbacks_plus._keras.saved_state import (
    CannotPlanError,
    SavedState,
    StructureChangedError,
)
from keras_callbacks_plus.errors import (
    CheckpointWarning,
    InvalidArgumentError,
    UnsupportedKerasError,
)
from keras_callbacks_plus.storage.atomic import Sink
from keras_callbacks_plus.storage.file_record import Trailer, read_record
from keras_callbacks_plus.storage.filesystem import temporary_folder

__all__ = ["ModelFileWriter", "Payload", "read_record"]

_WEIGHTS = "model.weights.h5"


class ModelFileWriter:
    """Captures one model, as often as it is asked to, for files of one kind.

    The files are those of `model.save` and `model.save_weights`: the same tree, types, attributes
    and configuration, and Keras opens them with this package not installed. `capture` is the only
    part that holds up training: one memory copy of the state (and, for a `.keras` file, the
    model's configuration). The first one also lays out the file, and so does the first one after
    the model's structure has changed.

    Where Keras's own saving has to do the work, because the class of the model has its own `save`,
    or for a legacy `.h5`, or because the model saves something that is not understood, `capture`
    lets it write to a temporary folder; in the last case with a `CheckpointWarning`, once.

    Args:
        model: The model.
        weights_only: Boolean, whether the files are `.weights.h5`, and not `.keras`.
        legacy_h5: Boolean, whether the whole model goes into a `.h5` instead. Defaults to `False`.
        copy_on_write: Boolean, whether to hold on to the variables' own memory where the backend
            lets us (TensorFlow, JAX), in place of a copy: `capture` takes next to no time, and the
            next training step makes the copy. The memory is given back by `Payload.release`.
            Defaults to `False`.

    Raises:
        InvalidArgumentError: If both `weights_only` and `legacy_h5` are set.

    Example:

    >>> import io, keras
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> writer = ModelFileWriter(model, weights_only=True)
    >>> sink = io.BytesIO()
    >>> with writer.capture() as payload:
    ...     payload.write_to(sink)
    >>> sink.getvalue()[1:4]
    b'HDF'
    """

    def __init__(
        self,
        model: Any,
        *,
        weights_only: bool,
        legacy_h5: bool = False,
        copy_on_write: bool = False,
    ) -> None:
        if weights_only and legacy_h5:
            raise InvalidArgumentError(
                "legacy_h5", True, "False with `weights_only`", "Leave it out: weights are HDF5."
            )
        self._model = model
        self._weights_only = weights_only
        self._suffix = ".weights.h5" if weights_only else ".h5" if legacy_h5 else ".keras"
        self._views = copy_on_write and host_view.views_survive_training()
        self._plan: WeightsPlan | None = None
        self._description = ModelDescription(model)
        self._free = threading.Event()
        self._free.set()
        self._warned: set[str] = set()

    @property
    def busy(self) -> bool:
        """Whether a payload is not released yet, so that `capture` would wait for it."""
        return not self._free.is_set()

    def capture(self, record: Mapping[str, Any] | None = None) -> Payload:
        """Takes the model as it is now. To be called from the thread that trains.

        There is memory for one payload: where the one before is not released, this waits for it.

        Args:
            record: What `read_record` will find at the end of the file, in JSON types; `None` for
                nothing. Keras does not look at it. It holds the checksum of the file before it.

        Returns:
            What to write, later and in any thread, and then to release.
        """
        trailer = Trailer(record)
        self._free.wait()
        compat.recover_state_after_failure(self._model)
        snapshot.unalias(self._model)
        cause = None
        if not self._is_for_keras():
            try:
                return self._captured(trailer)
            except (CannotPlanError, StructureChangedError, UnsupportedKerasError) as error:
                self._plan, cause = None, str(error)
            except BaseException:
                self._plan = None  # its memory holds what no file will, wholly or in part
                raise
        if cause is not None and cause not in self._warned:
            self._warned.add(cause)
            warnings.warn(
                f"Saving goes through Keras's own `save`, which holds up training for longer: "
                f"{cause}",
                CheckpointWarning,
                stacklevel=2,
            )
        return self._saved_by_keras(trailer)

    def is_unchanged(self) -> bool:
        """Whether the model still has the values that the last `capture` took.

        It reads the memory of that payload, which has to be released. Where it was not a copy, or
        Keras has saved, the answer is no.
        """
        compat.recover_state_after_failure(self._model)
        plan = self._plan
        if plan is None or self._views or not plan.state.is_current():
            return False
        try:
            return plan.is_same()
        except StructureChangedError:
            return False

    def _is_for_keras(self) -> bool:
        """Whether to let Keras save without trying: its rules and messages, or the user's own."""
        method = "save_weights" if self._weights_only else "save"
        overridden = getattr(type(self._model), method) is not getattr(keras.Model, method)
        return self._suffix == ".h5" or overridden or not self._model.built

    def _captured(self, trailer: Trailer) -> Payload:
        texts: dict[str, str] = {}
        buffers, plan = self._filled(functools.partial(self._describe, texts))
        contents: Contents
        if self._weights_only:
            contents = WeightsFile(buffers, plan.size, trailer)
        else:
            assets = {f"assets/{path}": data for path, data in plan.state.assets().items()}
            contents = Archive(texts, (_WEIGHTS, buffers, plan.size), assets, trailer)
        return self._hand_out(contents, contextlib.ExitStack())

    def _describe(self, texts: dict[str, str]) -> None:
        """Adds the small members of a `.keras` file, in order."""
        if not self._weights_only:
            config, metadata = self._description.texts()
            texts.update({"metadata.json": metadata, "config.json": config})

    def _filled(self, beside: Callable[[], None]) -> tuple[Buffers, WeightsPlan]:
        if self._plan is not None and self._plan.state.is_current():
            try:
                return self._fill(self._plan, beside)
            except StructureChangedError:  # of a part that has no variables of its own
                pass
        self._plan = None  # frees its memory before the next one takes its own
        self._plan = WeightsPlan(SavedState(self._model, with_assets=not self._weights_only))
        return self._fill(self._plan, beside)

    def _fill(self, plan: WeightsPlan, beside: Callable[[], None]) -> tuple[Buffers, WeightsPlan]:
        if not self._views:
            return plan.copy(beside), plan
        beside()
        return plan.views(), plan

    def _saved_by_keras(self, trailer: Trailer) -> Payload:
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(temporary_folder())
            path = os.path.join(folder, f"model{self._suffix}")
            if self._weights_only:
                self._model.save_weights(path)
            else:
                self._model.save(path)
            return self._hand_out(SavedFile(path, trailer), stack.pop_all())

    def _hand_out(self, contents: Contents, cleanup: contextlib.ExitStack) -> Payload:
        self._free.clear()
        cleanup.callback(self._free.set)
        return Payload(contents, cleanup)


class Payload:
    """A captured model, ready to be written; `release` it when that is done or given up.

    Args:
        contents: The bytes.
        cleanup: What releasing it does.

    Attributes:
        size_hint: How many bytes it will write, or a few hundred less.
    """

    def __init__(self, contents: Contents, cleanup: contextlib.ExitStack) -> None:
        self.size_hint = contents.size
        self._contents: Contents | None = contents
        self._release = weakref.finalize(self, cleanup.close)  # so that no `capture` waits in vain

    def write_to(self, sink: Sink) -> None:
        """Writes the file, front to back. May run in any thread, and more than once.

        Args:
            sink: Where to.
        """
        if self._contents is None:
            raise ValueError("The payload was released: capture the model again.")
        self._contents.write_to(sink)

    def release(self) -> None:
        """Gives the memory back; the second time does nothing."""
        self._contents = None
        self._release()

    def __enter__(self) -> Payload:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()
