"""Small models, one for each way in which Keras saves something; all seeded, with their data."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers


class Case(NamedTuple):
    """A model and what it learns from.

    Args:
        model: Compiled, except where that is the case's point.
        x: Inputs, 8 of them.
        y: Targets.
    """

    model: Any
    x: Any
    y: Any

    def train(self, epochs: int = 1) -> list[float]:
        fitted = self.model.fit(
            self.x, self.y, batch_size=4, epochs=epochs, shuffle=False, verbose=0
        )
        return fitted.history["loss"]

    def with_model(self, model: Any) -> Case:
        return self._replace(model=model)


def _case(model: Any, optimizer: Any = "adam", x: Any = None, eagerly: bool = True) -> Case:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((8, 6)).astype("float32") if x is None else x
    y = rng.standard_normal((8, 2)).astype("float32")
    # tracing and compiling takes longer than these few steps; on JAX, running op by op does
    eagerly = eagerly and keras.backend.backend() == "tensorflow"
    model.compile(optimizer, "mse", run_eagerly=eagerly)
    return Case(model, x, y)


@keras.saving.register_keras_serializable("zoo")
class Block(layers.Layer):
    """Layers in attributes, in a list and in a dict."""

    def __init__(self, units: int = 6, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.first = layers.Dense(units)
        self.more = [layers.Dense(units), layers.Dense(units)]
        self.named = {"a": layers.Dense(units), "b": layers.LayerNormalization()}

    def call(self, x: Any) -> Any:
        x = self.first(x)
        for layer in self.more:
            x = x + layer(x)
        return self.named["b"](self.named["a"](x))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable("zoo")
class Subclassed(keras.Model):
    """A model with a `call` of its own."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.blocks = [Block(), Block()]
        self.dropout = layers.Dropout(0.1, seed=5)
        self.head = layers.Dense(2)

    def call(self, x: Any, training: bool = False) -> Any:
        for block in self.blocks:
            x = block(x)
        return self.head(self.dropout(x, training=training))


@keras.saving.register_keras_serializable("zoo")
class Own(layers.Layer):
    """Saves a computed array, a variable and a plain array under names of its own; and a file."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.table = np.arange(6, dtype="float32")
        self.words = ["a", "b"]

    def build(self, shape: Any) -> None:
        self.w = self.add_weight(shape=(shape[-1], shape[-1]), name="w")
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False, name="count")

    def call(self, x: Any) -> Any:
        return x + keras.ops.matmul(x, self.w)

    def save_own_variables(self, store: Any) -> None:
        store["transposed"] = keras.ops.transpose(self.w)
        store["count"] = self.count
        store["table"] = self.table

    def load_own_variables(self, store: Any) -> None:
        self.w.assign(np.transpose(store["transposed"]))
        self.count.assign(store["count"])
        self.table = np.array(store["table"])

    def save_assets(self, folder: str) -> None:
        with open(os.path.join(folder, "words.txt"), "w") as file:
            file.write("\n".join(self.words))

    def load_assets(self, folder: str) -> None:
        with open(os.path.join(folder, "words.txt")) as file:
            self.words = file.read().split("\n")


def sequential() -> Case:
    model = keras.Sequential([keras.Input((6,)), layers.Dense(5, "relu"), layers.Dense(2)])
    return _case(model, keras.optimizers.SGD(0.05))


def _functional() -> Any:
    inputs = keras.Input((6,))
    shared = layers.Dense(6, "relu", name="shared")
    x = layers.BatchNormalization()(layers.Dropout(0.2, seed=4)(shared(inputs)))
    a = keras.Input((6,))
    nested = keras.Model(a, layers.Dense(4, name="inside")(layers.LayerNormalization()(a)))
    x = layers.Concatenate()([nested(shared(x)), nested(inputs)])
    tower = keras.Sequential([layers.Dense(5, "tanh"), layers.Dense(3)])
    return keras.Model(inputs, layers.Dense(2)(tower(x)))


def functional() -> Case:
    return _case(_functional())


def subclassed() -> Case:
    model = Subclassed()
    model(np.zeros((1, 6), "float32"))
    return _case(model)


def own_variables_and_assets() -> Case:
    inputs = keras.Input((6,))
    return _case(keras.Model(inputs, layers.Dense(2)(Own()(layers.Dense(4)(Own()(inputs))))))


def recurrent() -> Case:
    inputs = keras.Input((5,), dtype="int32")
    x = layers.Embedding(20, 6)(inputs)
    x = layers.GRU(4)(layers.MultiHeadAttention(2, 3)(x, x))
    tokens = np.random.default_rng(2).integers(0, 20, (8, 5)).astype("int32")
    return _case(keras.Model(inputs, layers.Dense(2)(x)), x=tokens)


def mixed_bfloat16() -> Case:
    inputs = keras.Input((6,))
    x = layers.Dense(4, dtype="bfloat16")(layers.Dense(6, dtype="mixed_bfloat16")(inputs))
    return _case(keras.Model(inputs, layers.Dense(2, dtype="float32")(x)))


def mixed_float16() -> Case:
    inputs = keras.Input((6,))
    x = layers.Dense(6, dtype="mixed_float16")(inputs)
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(1e-3))
    return _case(keras.Model(inputs, layers.Dense(2, dtype="float32")(x)), optimizer)


def moving_average() -> Case:
    return _case(_functional(), keras.optimizers.AdamW(1e-3, use_ema=True, ema_momentum=0.5))


def scheduled() -> Case:
    schedule = keras.optimizers.schedules.CosineDecay(1e-2, 20)
    return _case(_functional(), keras.optimizers.Adam(schedule))


def lora() -> Case:
    model = _functional()
    model.get_layer("shared").enable_lora(2)
    return _case(model)


def _quantized(mode: str) -> Any:
    inputs = keras.Input((6,))
    model = keras.Model(inputs, layers.Dense(2)(layers.Dense(4)(inputs)))
    for layer in model.layers[1:]:
        layer.quantize(mode)
    return model


def quantized() -> Case:
    x = np.random.default_rng(1).standard_normal((8, 6)).astype("float32")
    return Case(_quantized("int8"), x, None)


def quantized_lora() -> Case:
    """Whole numbers that stay as they are, and matrices beside them that learn."""
    model = _quantized("int8")
    for layer in model.layers[1:]:
        layer.enable_lora(2)
    return _case(model)


def float8() -> Case:
    """Scales that follow the training: https://arxiv.org/abs/2209.05433"""
    return _case(_quantized("float8"), eagerly=False)  # which Keras cannot differentiate


def uncompiled() -> Case:
    return Case(_functional(), np.random.default_rng(1).random((8, 6)).astype("float32"), None)


def unbuilt_optimizer() -> Case:
    return _case(_functional())


MODELS: dict[str, Callable[[], Case]] = {
    make.__name__: make
    for make in (
        sequential,
        functional,
        subclassed,
        own_variables_and_assets,
        recurrent,
        mixed_bfloat16,
        mixed_float16,
        moving_average,
        scheduled,
        lora,
        quantized,
        quantized_lora,
        float8,
        uncompiled,
        unbuilt_optimizer,
    )
}
MERGED = frozenset({"lora", "quantized_lora"})  # into the kernel, as Keras saves
UNTRAINED = frozenset({"quantized", "uncompiled", "unbuilt_optimizer"})


def build(name: str) -> Case:
    """The same model, bit for bit, at every call; trained a little where it can be."""
    keras.utils.set_random_seed(7)
    case = MODELS[name]()
    if name not in UNTRAINED:
        case.train()
    return case
