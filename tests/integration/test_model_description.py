"""What is remembered of a model's configuration is always what Keras would make now."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from keras import layers

from keras_callbacks_plus import EarlyStopping, ModelCheckpoint
from keras_callbacks_plus._keras import compat, model_description, snapshot
from keras_callbacks_plus._keras.configuration_watch import ConfigurationWatch
from keras_callbacks_plus._keras.model_description import ModelDescription
from tests.helpers import model_zoo

HAS_PARTS_OF_THE_USER = {"own_variables_and_assets", "subclassed"}


def by_keras(model):
    config, metadata = compat.saving_names().serialize(model)
    return config, sorted(json.loads(metadata))


def by_us(description):
    config, metadata = description.texts()
    return config, sorted(json.loads(metadata))


@pytest.fixture
def times_asked(monkeypatch):
    """How often Keras has made a whole configuration for us, one line each."""
    names, asked = compat.saving_names(), []

    def serialize(model):
        asked.append(model)
        return names.serialize(model)

    counted = names._replace(serialize=serialize)
    monkeypatch.setattr(model_description.compat, "saving_names", lambda: counted)
    return asked


@pytest.mark.parametrize("name", model_zoo.MODELS)
def test_the_layers_are_asked_once_unless_a_part_is_the_users_own(name, times_asked):
    case = model_zoo.build(name)
    description = ModelDescription(case.model)
    texts = []
    for _ in range(3):
        if case.y is not None and name not in model_zoo.UNTRAINED:
            snapshot.unalias(case.model)
            case.train()
        texts.append(by_us(description))
        assert texts[-1] == by_keras(case.model)
    asked = len(times_asked) - len(texts)  # `by_keras` is counted as well
    assert asked == (3 if name in HAS_PARTS_OF_THE_USER else 1)


@keras.saving.register_keras_serializable("descriptions")
class Counting(layers.Layer):
    calls = 0

    def call(self, x):
        return x

    def get_config(self):
        Counting.calls += 1
        return {**super().get_config(), "calls": Counting.calls}

    @classmethod
    def from_config(cls, config):
        config.pop("calls")
        return cls(**config)


COUNTED = {}


def counted_config():
    COUNTED["units"] += 1
    return dict(COUNTED)


def counted_shapes():
    COUNTED[len(COUNTED)] = True
    return {"input_shape": [None, len(COUNTED)]}


def rich_model():
    """Layers of many kinds, nested and shared, with what they hold."""
    sequence = keras.Input((8, 4), name="sequence")
    x = layers.Conv1D(4, 3, padding="same", kernel_regularizer=keras.regularizers.L2(0.1))(sequence)
    x = layers.BatchNormalization(momentum=0.9)(x)
    x = layers.Bidirectional(layers.GRU(3, return_sequences=True))(x)
    x = layers.MultiHeadAttention(2, 3)(x, x)
    x = layers.RNN(layers.StackedRNNCells([layers.LSTMCell(3), layers.LSTMCell(3)]))(x)
    inside = keras.Input((3,))
    nested = keras.Model(inside, layers.Dense(3, kernel_constraint="max_norm")(inside))
    tower = keras.Sequential([layers.Dense(3, "relu"), layers.Dropout(0.1, seed=1)])
    x = layers.Add()([nested(x), tower(nested(x))])
    x = layers.Dense(2, kernel_initializer=keras.initializers.Constant(0.5))(x)
    model = keras.Model(sequence, layers.LeakyReLU(negative_slope=0.1)(x))
    model.compile(keras.optimizers.Adam(0.01), "mse", metrics=["mae"])
    return model


def holders(model):
    """Every layer, and every initializer, regularizer and constraint in one."""
    for layer in compat.flat_layers(model):
        yield layer
        for name, value in list(vars(layer).items()):
            is_layer = isinstance(value, layers.Layer)  # yielded already
            if hasattr(value, "get_config") and not is_layer and name not in compat.COMPILED:
                yield value


def another(value):
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return value + "_"


def test_every_attribute_that_a_configuration_shows_is_seen_to_change():
    model = rich_model()
    description = ModelDescription(model)
    changed = 0
    for holder in list(holders(model)):
        for name in [name for name in holder.get_config() if name in vars(holder)]:
            value = vars(holder)[name]
            if not isinstance(value, bool | int | float | str):
                continue
            assert by_us(description) == by_us(description) == by_keras(model)
            before = by_keras(model)
            object.__setattr__(holder, name, another(value))
            assert by_us(description) == by_keras(model), (holder, name)
            changed += by_keras(model) != before
            object.__setattr__(holder, name, value)
    assert changed > 50


@pytest.mark.parametrize(
    "change",
    [
        lambda model: setattr(model, "trainable", False),
        lambda model: setattr(model.layers[1], "trainable", False),
        lambda model: setattr(model.layers[-2], "activation", keras.activations.tanh),
        lambda model: setattr(model.layers[1], "kernel_regularizer", None),
        lambda model: setattr(model.layers[1], "dtype_policy", "mixed_bfloat16"),
        lambda model: model.optimizer.learning_rate.assign(0.5),
        lambda model: model.compile("sgd", "mae"),
        lambda model: model.get_layer("dense").enable_lora(1),
        lambda model: next(
            layer
            for layer in compat.flat_layers(model)
            if isinstance(layer, layers.StackedRNNCells)
        ).cells.pop(),
        lambda model: setattr(
            next(x for x in holders(model) if isinstance(x, keras.initializers.Constant)),
            "value",
            3,
        ),
    ],
)
def test_what_callbacks_do_to_a_model_is_seen(change):
    model = rich_model()
    if not any(layer.name == "dense" for layer in model.layers):
        next(x for x in reversed(model.layers) if isinstance(x, layers.Dense)).name = "dense"
    description = ModelDescription(model)
    before = by_us(description)
    assert by_us(description) == before
    change(model)
    assert by_us(description) == by_us(description) == by_keras(model)
    assert by_us(description) != before


def test_a_sequential_model_that_gets_and_loses_layers():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    description = ModelDescription(model)
    for change in (
        lambda: model.add(layers.Dense(2)),
        model.pop,
        lambda: model.compile("sgd", "mse"),
        lambda: model.add(layers.Dense(5)),
    ):
        assert by_us(description) == by_us(description) == by_keras(model)
        change()
    assert by_us(description) == by_keras(model)


@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
@pytest.mark.parametrize(
    "how",
    [
        *["a layer", "an instance", "an instance's shapes", "an array", "a closure"],
        *["an activation", "an argument", "a compiled model"],
    ],
)
def test_what_cannot_be_watched_is_asked_each_time(how, times_asked):
    inputs = keras.Input((4,))
    dense = layers.Dense(3, kernel_initializer=keras.initializers.Constant(2.0))
    x = dense(inputs)
    if how == "a layer":
        x = Counting()(x)
    factors, scale = [1.0], np.ones(3, "float32")
    if how == "an argument":
        x = layers.Multiply()([x, scale]) if compat.backend() == "torch" else x * scale
    if how == "a compiled model":
        inside = keras.Sequential([keras.Input((3,)), layers.Dense(3)])
        inside.compile("sgd", "mse")
        x = inside(x)
    if how == "an activation":
        dense.activation = lambda held: held * factors[0]
    if how == "a closure":
        x = layers.Lambda(lambda held: held * factors[0], output_shape=(3,))(x)
    model = keras.Model(inputs, x)
    if how == "an instance":
        config = dense.get_config()
        COUNTED.clear()
        COUNTED.update(config)
        dense.get_config = counted_config
    if how == "an instance's shapes":
        COUNTED.clear()
        dense.get_build_config = counted_shapes
    if how == "an array":
        dense.kernel_initializer.value = np.ones(3)
    description = ModelDescription(model)
    seen = [by_us(description)[0]]
    if how == "an array":
        dense.kernel_initializer.value[:] = 7
    scale[:] = 7
    factors.append(2.0)
    factors[0] = 2.0
    if how == "a compiled model":
        inside.optimizer.learning_rate = 0.5
    seen.append(by_us(description)[0])
    assert len(times_asked) == 2
    assert seen[0] != seen[1]


@pytest.mark.torch
def test_a_module_of_pytorch_is_asked_each_time():
    import torch

    module = torch.nn.Dropout(0.5)
    wrapper = layers.TorchModuleWrapper(module, output_shape=(None, 4))
    model = keras.Sequential([keras.Input((4,)), wrapper, layers.Dense(2)])
    description = ModelDescription(model)
    before = by_us(description)
    module.p = 0.1
    assert by_us(description) == by_keras(model) != before


def test_a_wrapper_that_gets_another_layer_is_seen():
    first, second = layers.Dense(3), layers.Dense(3)
    wrapper = layers.TimeDistributed(first)
    wrapper.layer = second  # both are layers in it now, on every backend
    model = keras.Sequential([keras.Input((5, 4)), wrapper])
    description = ModelDescription(model)
    for layer in (first, second, first, second, first):
        wrapper.layer = layer
        assert by_us(description) == by_us(description) == by_keras(model)


def swish_of_the_user(x):
    return x * keras.ops.sigmoid(x)


def test_a_function_of_no_module():
    made = {}
    exec("def shift(x):\n    return x + 1", made)
    made["shift"].__module__ = None
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, activation=made["shift"])])
    description = ModelDescription(model)
    assert by_us(description) == by_us(description) == by_keras(model)


def test_a_function_that_is_registered_has_another_name():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, activation=swish_of_the_user)])
    description = ModelDescription(model)
    before = by_us(description)
    assert by_us(description) == before
    keras.saving.register_keras_serializable("pkg")(swish_of_the_user)
    assert by_us(description) == by_keras(model) != before


def test_an_attribute_more_or_less_is_a_change():
    model = keras.Sequential([keras.Input((4,)), layers.Dropout(0.5)])
    watch = ConfigurationWatch(model)
    assert watch.is_unchanged()
    model.layers[0].new = 1
    assert not watch.is_unchanged()
    del model.layers[0].new
    assert watch.is_unchanged()
    del model.layers[0].rate
    assert not watch.is_unchanged()


def test_a_keras_that_puts_its_texts_together_in_another_way_is_asked_each_time(monkeypatch):
    names, asked = compat.saving_names(), []

    def serialize(model):
        asked.append(model)
        config, metadata = names.serialize(model)
        return json.dumps(dict(reversed(json.loads(config).items()))), metadata

    turned = names._replace(serialize=serialize)
    monkeypatch.setattr(model_description.compat, "saving_names", lambda: turned)
    model = rich_model()
    description = ModelDescription(model)
    for _ in range(3):
        config = description.texts()[0]
        assert json.loads(config)["compile_config"]["loss"] == "mse"
    assert len(asked) == 3


def test_a_model_that_always_changes_is_no_longer_watched(monkeypatch, times_asked):
    watches = []
    watch = model_description.ConfigurationWatch
    monkeypatch.setattr(
        model_description, "ConfigurationWatch", lambda model: watches.append(1) or watch(model)
    )
    model = keras.Sequential([keras.Input((4,)), layers.Dropout(0.5)])
    description = ModelDescription(model)
    for turn in range(10):
        model.layers[0].rate = turn / 20
        assert by_us(description) == by_keras(model)
    assert len(watches) == model_description._TRIES

    watches.clear()
    description = ModelDescription(model)
    for turn in range(10):
        model.layers[0].rate = turn / 20
        assert by_us(description) == by_us(description) == by_keras(model)
    assert len(watches) == 10


def test_the_date_is_that_of_the_save(monkeypatch):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    description = ModelDescription(model)
    description.texts()

    class Later(model_description.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2031, 2, 3, 4, 5, 6)

    monkeypatch.setattr(model_description, "datetime", Later)
    assert json.loads(description.texts()[1])["date_saved"] == "2031-02-03@04:05:06"


class Changing(keras.callbacks.Callback):
    """Changes a layer after two epochs, and the learning rate in each."""

    def on_epoch_begin(self, epoch, logs=None):
        self.model.layers[-1].activation = keras.activations.get("tanh" if epoch >= 2 else "relu")
        self.model.optimizer.learning_rate = 0.1 / (epoch + 1)


@pytest.mark.parametrize("every", ["epoch", "batch"])
def test_the_layers_are_asked_once_in_a_run(tmp_path, every, times_asked):
    """Nothing that `fit`, validation or our own callbacks keep on a model counts as a change."""
    case = model_zoo.build("functional")
    case.model.fit(
        case.x,
        case.y,
        batch_size=4,
        epochs=3,
        verbose=0,
        validation_data=(case.x, case.y),
        callbacks=[
            ModelCheckpoint(tmp_path / "{epoch}-{batch}.keras", save_freq=1)
            if every == "batch"
            else ModelCheckpoint(tmp_path / "{epoch}.keras"),
            EarlyStopping(patience=1),
        ],
    )
    assert len(list(tmp_path.glob("*.keras"))) == (6 if every == "batch" else 3)
    assert len(times_asked) <= 2  # after the first validation the model has one attribute more


def test_each_file_of_a_run_has_the_configuration_of_its_epoch(tmp_path):
    case = model_zoo.build("sequential")
    checkpoint = ModelCheckpoint(tmp_path / "{epoch}.keras", max_to_keep=None)
    case.model.fit(case.x, case.y, epochs=4, verbose=0, callbacks=[Changing(), checkpoint])
    for epoch in range(4):
        model = keras.saving.load_model(tmp_path / f"{epoch + 1}.keras")
        assert model.layers[-1].get_config()["activation"] == ("tanh" if epoch >= 2 else "relu")
        assert float(model.optimizer.learning_rate) == pytest.approx(0.1 / (epoch + 1))
