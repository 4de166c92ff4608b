"""Version and backend differences: every private Keras name is touched here, with its reason."""

from __future__ import annotations

from keras_callbacks_plus._keras.compat.callbacks import (
    CALLBACK_PLUMBING,
    callback_attributes,
    monitor_op,
)
from keras_callbacks_plus._keras.compat.data import (
    adapter_epoch,
    advance_dataset,
    batch_spec,
    input_is_shuffled,
    input_kind,
    is_python_input,
    is_tensorflow_dataset,
    python_input,
    set_adapter_epoch,
    tensorflow_dataset,
)
from keras_callbacks_plus._keras.compat.fitting import (
    ENUMERATION,
    fit_arguments,
    flush_batch_hooks,
    is_end_of_data,
    make_validation_iterator,
    print_msg,
    recover_state_after_failure,
    running_fit,
    set_initial_epoch,
    skip_next_finalize,
    unused_hook,
    validates,
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
    optimized_variables,
    raw_value,
    to_numpy,
)
from keras_callbacks_plus._keras.compat.tensorflow_data import dataset_doubts
from keras_callbacks_plus._keras.compat.versions import (
    MINIMUM_KERAS,
    MINIMUM_TENSORFLOW,
    backend,
    keras_version,
    require_keras,
    require_keras_model,
)

__all__ = [
    "CALLBACK_PLUMBING",
    "ENUMERATION",
    "MINIMUM_KERAS",
    "MINIMUM_TENSORFLOW",
    "SavingNames",
    "adapter_epoch",
    "advance_dataset",
    "batch_spec",
    "averaged_variables",
    "tensorflow_dataset",
    "fit_arguments",
    "make_validation_iterator",
    "validates",
    "dataset_doubts",
    "is_python_input",
    "is_tensorflow_dataset",
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
    "keras_version",
    "metrics_built",
    "optimized_variables",
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
