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
    sharing_scope: Any


def saving_names() -> SavingNames:
    """The private parts of Keras's saving, to let each part of a model write to our memory.

    `model.save` writes to a file only, and holds up to 2.5 copies of the state while it does.
    https://github.com/keras-team/keras/blob/v3.15.1/keras/src/saving/saving_lib.py
    Raises `UnsupportedKerasError` if this Keras saves in another way.
    """
    try:
        from keras.src.saving import saving_lib as lib

        return SavingNames(
            lib._save_state,
            lib.H5IOStore,
            lib.DiskIOStore,
            lib._serialize_model_as_json,
            lib.ObjectSharingScope,
        )
    except (ImportError, AttributeError) as error:
        raise UnsupportedKerasError(f"This Keras saves in another way: {error}.") from error


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Attributes of models and layers that no `get_config` reads: what `fit` keeps while it runs, and
# lists of what else belongs to a layer. The first change from epoch to epoch, the second cost time.
OUTSIDE_CONFIGURATION = _names(
    """
    history stop_training stop_evaluating train_function test_function predict_function training
    call_signature_parameters _call_context_args _call_has_context_arg _distribute_strategy
    _epoch_iterator _eval_epoch_iterator _input_spec _jax_state _jax_state_synced _losses
    _loss_ids _losses_override _metrics _non_trainable_variables _outbound_nodes _parent_path
    _saved_model_arg_spec _saved_model_inputs_spec _seed_generators _trainable_variables

    _self_name_based_restores _self_saveable_object_factories
    _self_unconditional_checkpoint_dependencies _self_unconditional_deferred_dependencies
    _self_unconditional_dependency_names _self_update_uid _tracked

    _backward_hooks _backward_pre_hooks _buffers _forward_hooks _forward_hooks_always_called
    _forward_hooks_with_kwargs _forward_pre_hooks _forward_pre_hooks_with_kwargs
    _load_state_dict_post_hooks _load_state_dict_pre_hooks _modules _non_persistent_buffers_set
    _parameters _state_dict_hooks _state_dict_pre_hooks _torch_params
    """
)

_VALUES = "__tensor__", "__numpy__", "__bytes__"

# What `compile` sets, which `get_compile_config` is asked for.
COMPILED = _names("optimizer loss _compile_config _compile_loss _compile_metrics _loss_tracker")


def modules_in(attributes: dict[str, Any]) -> dict[str, Any]:
    """Where PyTorch keeps the attributes of a layer that are layers themselves; else empty."""
    found: dict[str, Any] = attributes.get("_modules", {})
    return found


def holds_values(config: str) -> bool:
    """Whether a configuration, as JSON, has values of arrays, tensors or variables in it.

    They can change in place, and stand in the arguments of a functional model's layers, for one:
    https://github.com/keras-team/keras/blob/v3.15.1/keras/src/saving/serialization_lib.py
    """
    return any(f'"class_name": "{name}"' in config for name in _VALUES)


def holds_configuration(value: Any) -> bool:
    """Whether it is where `Operation` keeps the arguments that a layer was made with.

    `Operation.get_config` is made from them where a class has none of its own:
    https://github.com/keras-team/keras/blob/v3.15.1/keras/src/ops/operation.py
    """
    return type(value).__name__ == "SerializableDict"


def compile_config(model: Any) -> Any:
    """What `model.save` writes of the arguments of `compile`; `None` where it writes nothing."""
    import keras

    with saving_names().sharing_scope():
        return keras.saving.serialize_keras_object(model.get_compile_config())
