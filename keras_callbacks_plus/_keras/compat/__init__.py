"""Version and backend differences: every private Keras name is touched here, with its reason."""

from __future__ import annotations

from keras_callbacks_plus._keras.compat.callbacks import (
    CALLBACK_INSIDES,
    CALLBACK_PLUMBING,
    callback_attributes,
    is_of_keras,
    monitor_op,
)
from keras_callbacks_plus._keras.compat.data import (
    adapter_epoch,
    advance_dataset,
    input_is_shuffled,
    input_kind,
    python_input,
    set_adapter_epoch,
)
from keras_callbacks_plus._keras.compat.fitting import (
    ENUMERATION,
    flush_batch_hooks,
    is_end_of_data,
    print_msg,
    recover_state_after_failure,
    running_fit,
    set_initial_epoch,
    skip_next_finalize,
    unused_hook,
)
from keras_callbacks_plus._keras.compat.randomness import (
    global_seed_generator,
    tensorflow_global_generator,
    tensorflow_global_seed,
)
from keras_callbacks_plus._keras.compat.saving import (
    SavingNames,
    saving_names,
)
from keras_callbacks_plus._keras.compat.state import (
    averaged_variables,
    declared_direction,
    detached_optimizer_values,
    flat_layers,
    metrics_built,
    raw_value,
    to_numpy,
)
from keras_callbacks_plus._keras.compat.versions import (
    MINIMUM_KERAS,
    MINIMUM_TENSORFLOW,
    backend,
    keras_version,
    require_keras,
    require_keras_model,
)

__all__ = [
    "CALLBACK_INSIDES",
    "CALLBACK_PLUMBING",
    "ENUMERATION",
    "MINIMUM_KERAS",
    "MINIMUM_TENSORFLOW",
    "SavingNames",
    "adapter_epoch",
    "advance_dataset",
    "averaged_variables",
    "backend",
    "callback_attributes",
    "declared_direction",
    "detached_optimizer_values",
    "flat_layers",
    "flush_batch_hooks",
    "global_seed_generator",
    "input_is_shuffled",
    "input_kind",
    "is_end_of_data",
    "is_of_keras",
    "keras_version",
    "metrics_built",
    "monitor_op",
    "print_msg",
    "python_input",
    "raw_value",
    "recover_state_after_failure",
    "require_keras",
    "require_keras_model",
    "running_fit",
    "saving_names",
    "set_adapter_epoch",
    "set_initial_epoch",
    "skip_next_finalize",
    "tensorflow_global_generator",
    "tensorflow_global_seed",
    "to_numpy",
    "unused_hook",
]
