"""Version and backend differences: every private Keras name is touched here, with its reason."""

from __future__ import annotations

import os
import re
import sys
from typing import Any, Literal, NamedTuple

from keras_callbacks_plus.errors import UnsupportedKerasError

MINIMUM_KERAS = (3, 10)
MINIMUM_TENSORFLOW = (2, 16)

_WHAT_TO_DO = (
    'Install "keras>=3.10" (with "tensorflow>=2.16", JAX or PyTorch as its backend) and unset '
    "TF_USE_LEGACY_KERAS. Keras 2 and tf-keras models: stay on tf.keras's own callbacks; no "
    "version of keras-callbacks-plus supports them."
)


def _version_tuple(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def require_keras() -> None:
    """Raises `UnsupportedKerasError` where Keras is absent, too old, or Keras 2 in disguise."""
    try:
        import keras
    except ModuleNotFoundError as error:
        if error.name != "keras":
            raise
        raise UnsupportedKerasError(f"Keras is not installed. {_WHAT_TO_DO}") from error
    found = str(getattr(keras, "__version__", "0"))
    if _version_tuple(found) < MINIMUM_KERAS:
        raise UnsupportedKerasError(
            f"Found Keras {found}; keras-callbacks-plus needs Keras >= 3.10. {_WHAT_TO_DO}"
        )
    tensorflow = sys.modules.get("tensorflow")  # never imported by us
    if tensorflow is not None:
        found = str(getattr(tensorflow, "__version__", "0"))
        if _version_tuple(found) < MINIMUM_TENSORFLOW:
            raise UnsupportedKerasError(
                f"Found TensorFlow {found} under Keras {keras.__version__}; keras-callbacks-plus "
                f"needs TensorFlow >= 2.16. {_WHAT_TO_DO}"
            )


def require_keras_model(model: Any) -> None:
    """Raises `UnsupportedKerasError` for a model of Keras 2 (tf-keras, or inside TensorFlow).

    Anything else passes that has the methods a callback calls: wrappers and doubles do.
    """
    for kind in type(model).__mro__:
        if kind.__module__.startswith(("tf_keras.", "tensorflow.python.keras.")):
            raise UnsupportedKerasError(
                f"The model is a {kind.__module__}.{kind.__qualname__}, which is not of Keras 3 "
                f"(TF_USE_LEGACY_KERAS={os.environ.get('TF_USE_LEGACY_KERAS', 'unset')}). "
                f"{_WHAT_TO_DO}"
            )


def backend() -> str:
    """Name of Keras's backend: `"tensorflow"`, `"jax"`, `"torch"` or another."""
    import keras

    return str(keras.backend.backend())


def keras_version() -> tuple[int, ...]:
    """The first two numbers of Keras's version."""
    import keras

    return _version_tuple(str(keras.__version__))


def running_fit(callback: Any) -> tuple[Any, Any, Any] | None:
    """The model, callback list and epoch iterator of the `fit` that calls `callback` now.

    Keras passes none of them to a callback; they are locals of `Trainer.fit`
    (https://github.com/keras-team/keras/blob/v3.15.1/keras/src/backend/jax/trainer.py), whose
    frame is above that of `on_train_begin`.
    Gives the three, or `None` where no `fit` is among the calling frames.
    """
    import keras

    frame = sys._getframe(1)
    for _ in range(24):
        owner = frame.f_locals.get("self")
        if frame.f_code.co_name == "fit" and isinstance(owner, keras.Model):
            callback_list = frame.f_locals.get("callbacks")
            iterator = frame.f_locals.get("epoch_iterator")
            if (
                isinstance(callback_list, keras.callbacks.CallbackList)
                and iterator is not None
                and any(member is callback for member in callback_list.callbacks)
            ):
                return owner, callback_list, iterator
        if frame.f_back is None:
            return None
        frame = frame.f_back
    return None


ENUMERATION = "_enumerate_iterator"
"""Method of Keras's epoch iterator that gives one item for each execution of an epoch, the data's
iterator last; looked up on the instance at the beginning of every epoch:
https://github.com/keras-team/keras/blob/v3.15.1/keras/src/trainers/epoch_iterator.py
"""


def flush_batch_hooks(callback_list: Any) -> None:
    """Waits for batch hooks in Keras's thread pool (`CallbackList._flush_futures`).

    https://github.com/keras-team/keras/blob/v3.15.1/keras/src/callbacks/callback_list.py: on JAX
    and PyTorch, `on_train_batch_end` runs in other threads where no callback needs it at once.
    """
    getattr(callback_list, "_flush_futures", lambda: None)()


def is_end_of_data(error: BaseException) -> bool:
    """Whether an exception is how an input says that it has no more batches.

    TensorFlow's iterators raise `OutOfRangeError`, which its `catch_stop_iteration` handles:
    https://github.com/keras-team/keras/blob/v3.15.1/keras/src/backend/tensorflow/trainer.py
    """
    return isinstance(error, StopIteration) or type(error).__name__ == "OutOfRangeError"


def recover_state_after_failure(model: Any) -> None:
    """On JAX, attaches the training state to the model again (public `jax_state_sync`)."""
    if backend() == "jax" and hasattr(model, "jax_state_sync"):
        model.jax_state_sync()


def skip_next_finalize(model: Any) -> None:
    """Lets the next `optimizer.finalize_variable_values` of a failed JAX `fit` pass without effect.

    Keras's JAX `fit` calls it in a `finally`, after an exception too, which would write the moving
    averages (`use_ema`) over the weights that a callback has just restored:
    https://github.com/keras-team/keras/blob/v3.15.1/keras/src/backend/jax/trainer.py
    """
    optimizer = getattr(model, "optimizer", None)
    if backend() != "jax" or not getattr(optimizer, "use_ema", False):
        return

    def pass_once(_trainable_variables: Any) -> None:
        object.__delattr__(optimizer, "finalize_variable_values")

    object.__setattr__(optimizer, "finalize_variable_values", pass_once)


def to_numpy(value: Any) -> Any:
    """A tensor of any backend as a NumPy array; anything else as it is."""
    import keras

    return keras.ops.convert_to_numpy(value) if keras.ops.is_tensor(value) else value


def declared_direction(model: Any, name: str) -> Literal["min", "max"] | None:
    """`"min"` or `"max"` as the built metric called `name` declares it, else `None`.

    Keras's metrics say so in `_direction`, and the compiled ones are nested in containers:
    https://github.com/keras-team/keras/blob/v3.15.1/keras/src/callbacks/monitor_callback.py
    """
    pending = list(getattr(model, "metrics", None) or [])
    while pending:
        metric = pending.pop(0)
        nested = getattr(metric, "metrics", None)
        if nested:
            pending.extend(nested)
        if getattr(metric, "name", None) == name and hasattr(metric, "_direction"):
            return "max" if metric._direction == "up" else "min"
    return None


def global_seed_generator(create: bool = False) -> Any:
    """Keras's global seed generator, which `keras.random` draws from where no seed is given.

    It has no public accessor:
    https://github.com/keras-team/keras/blob/v3.15.1/keras/src/random/seed_generator.py

    With `create`, it is made where no one has drawn from it yet.
    """
    from keras.src.backend.common import global_state

    generator = global_state.get_global_attribute("global_seed_generator")
    if generator is None and create:
        from keras.src.random.seed_generator import global_seed_generator as make

        generator = make()
    return generator


def tensorflow_global_generator(create: bool = False) -> Any:
    """TensorFlow's global generator if the process has one; TensorFlow is never imported here.

    `tf.random.get_global_generator()` would create it, so its module variable is read:
    https://github.com/tensorflow/tensorflow/blob/v2.21.0/tensorflow/python/ops/stateful_random_ops.py
    """
    module = sys.modules.get("tensorflow.python.ops.stateful_random_ops")
    generator = getattr(module, "global_generator", None)
    if generator is None and create and "tensorflow" in sys.modules:
        generator = sys.modules["tensorflow"].random.get_global_generator()
    return generator


def tensorflow_global_seed() -> int | None:
    """The seed given to `tf.random.set_seed`, or `None`; it fixes the order of shuffled data.

    https://github.com/tensorflow/tensorflow/blob/v2.21.0/tensorflow/python/eager/context.py
    """
    module = sys.modules.get("tensorflow.python.eager.context")
    seed = module.global_seed() if module is not None else None
    return None if seed is None else int(seed)


CALLBACK_PLUMBING = frozenset({"_model", "model", "params", "validation_data"})
"""Attributes that Keras sets on every callback; they belong to the `fit`, not to the callback."""

# The state of Keras's own callbacks, which have no protocol for it. Each file is
# https://github.com/keras-team/keras/blob/v3.15.1/keras/src/callbacks/<name>.py
_CALLBACK_ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "EarlyStopping": ("wait", "stopped_epoch", "best", "best_weights", "best_epoch"),
    "ReduceLROnPlateau": ("best", "cooldown_counter", "wait"),
    "ModelCheckpoint": ("best", "_batches_seen_since_last_saving", "_last_batch_seen"),
    "SwapEMAWeights": ("_ema_weights_in_model",),
    "History": ("history", "epoch"),
    "LearningRateScheduler": (),
    "TerminateOnNaN": (),
    "LambdaCallback": (),
    "CSVLogger": (),
    "RemoteMonitor": (),
    "ProgbarLogger": (),
    "TensorBoard": ("_global_train_batch", "_global_test_batch", "_previous_epoch_iterations"),
}


def callback_attributes(callback: Any) -> tuple[str, ...] | None:
    """Names of the attributes that are the state of one of Keras's own callbacks, else `None`."""
    of_keras = type(callback).__module__.split(".")[0] == "keras"
    return _CALLBACK_ATTRIBUTES.get(type(callback).__name__) if of_keras else None


def set_initial_epoch(model: Any, epoch: int | None) -> None:
    """Makes the running `fit` start at `epoch`; `None` makes the next one start where it is told.

    `Model._initial_epoch` is the hook that Keras's own BackupAndRestore uses, and never clears:
    https://github.com/keras-team/keras/blob/v3.15.1/keras/src/callbacks/backup_and_restore.py
    """
    model._initial_epoch = epoch


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


def monitor_op(direction: Literal["min", "max"]) -> Any:
    """The comparison that Keras's callbacks show as `monitor_op`."""
    from keras import ops

    return ops.less if direction == "min" else ops.greater


def averaged_variables(model: Any) -> list[tuple[Any, Any]]:
    """Each trainable variable with the optimizer's moving average of it; empty without `use_ema`.

    The averages have no public accessor:
    https://github.com/keras-team/keras/blob/v3.15.1/keras/src/optimizers/base_optimizer.py
    """
    optimizer: Any = getattr(model, "optimizer", None)
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if not getattr(optimizer, "use_ema", False) or not optimizer.built:
        return []
    averages = optimizer._model_variables_moving_average
    pairs = zip(model.trainable_variables, averages, strict=True)
    return [(variable, average) for variable, average in pairs if average is not None]


def metrics_built(model: Any) -> bool:
    """Whether the compiled metrics exist; on TensorFlow they come with the first step.

    https://github.com/keras-team/keras/blob/v3.15.1/keras/src/trainers/trainer.py
    """
    compiled = getattr(model, "_compile_metrics", None)
    return compiled is None or bool(getattr(compiled, "built", False))


def unused_hook(method: Any) -> Any:
    """Marks an overridden batch hook as one that does nothing.

    Keras gives up asynchronous dispatch of batch hooks for the whole list as soon as one callback
    overrides one, and tells by this mark whether it does:
    https://github.com/keras-team/keras/blob/v3.15.1/keras/src/utils/python_utils.py
    """
    method._is_default = True
    return method


def print_msg(message: str) -> None:
    """Prints a line as Keras does, so that `keras.config.disable_interactive_logging()` holds.

    https://github.com/keras-team/keras/blob/v3.15.1/keras/src/utils/io_utils.py
    """
    from keras.src.utils import io_utils

    io_utils.print_msg(message)


def raw_value(variable: Any) -> Any:
    """What a variable holds, or `None` while a JAX step has taken it (`Variable._value`).

    The public `value` gives a new initial value then, which would be saved as if it were trained:
    https://github.com/keras-team/keras/blob/v3.15.1/keras/src/backend/common/variables.py
    """
    return variable._value


def flat_layers(model: Any) -> list[Any]:
    """The model and every layer in it, at any depth (`Layer._flatten_layers`).

    https://github.com/keras-team/keras/blob/v3.15.1/keras/src/layers/layer.py
    """
    return list(model._flatten_layers())


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


def detached_optimizer_values(model: Any) -> Any:
    """JAX: the optimizer's values while they are out of its variables, else `None`.

    Within an epoch of `fit`, from its second batch on, they are in `model._jax_state` (a copy of
    the list that the loop passes to the next step), unless somebody has synchronised:
    https://github.com/keras-team/keras/blob/v3.15.1/keras/src/backend/jax/trainer.py
    """
    if backend() != "jax":
        return None
    state = getattr(model, "_jax_state", None)
    if not state or getattr(model, "_jax_state_synced", True):
        return None
    return state["optimizer_variables"]
