"""What a run may be made of beside its data: each with the arguments of `resumed_runs.train`."""

from __future__ import annotations

import sys

import keras
import numpy as np

from tests.helpers import resumed_runs
from tests.helpers.resumed_runs import BATCH, SAMPLES, arrays


class OwnStep(keras.Model):
    """A train step of one's own, with a metric of its own."""

    def __init__(self):
        super().__init__()
        self.hidden, self.out = keras.layers.Dense(5), keras.layers.Dense(1)
        self.drop = keras.layers.Dropout(0.2)
        self.largest = keras.metrics.Mean(name="largest")

    def call(self, x, training=False):
        return self.out(self.drop(self.hidden(x), training=training))

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        self.largest.update_state(keras.ops.max(y_pred))
        return {
            **super().compute_metrics(x, y, y_pred, sample_weight),
            "largest": self.largest.result(),
        }


class TwoInputs(OwnStep):
    """Unbuilt, with its inputs in a dict."""

    def __init__(self):
        super().__init__()
        self.other = keras.layers.Dense(5)

    def call(self, x, training=False):
        hidden = self.hidden(x["p"]) + self.other(x["q"])
        return self.out(self.drop(hidden, training=training))


def compiled(kind):
    def make():
        model = kind()
        model.compile("adam", "mse", metrics=["mae"])
        return model

    return make


def two_outputs():
    inputs = keras.Input((4,))
    hidden = keras.layers.Dropout(0.2)(keras.layers.Dense(5)(inputs))
    outputs = {name: keras.layers.Dense(1, name=name)(hidden) for name in ("a", "b")}
    model = keras.Model(inputs, outputs)
    losses = {"a": "mse", "b": "mae"}
    model.compile("sgd", losses, loss_weights={"a": 1.0, "b": 0.5}, metrics={"a": ["mae"]})
    return model


def two_targets():
    x, y = arrays()
    return (x, {"a": y, "b": -y}), {
        "batch_size": BATCH,
        "validation_data": (x[:8], {"a": y[:8], "b": -y[:8]}),
    }


def two_inputs():
    x, y = arrays()
    x = {"p": x, "q": x[:, :2]}
    first = {name: part[:8] for name, part in x.items()}
    return (x, y), {"batch_size": BATCH, "validation_data": (first, y[:8])}


def model_with(**compiled):
    return lambda: resumed_runs.plain_model(**compiled)


def weighted():
    x, y = arrays()
    weights = np.linspace(0.1, 1.0, len(x)).astype("float32")
    return (x, y), {"batch_size": BATCH, "sample_weight": weights}


def classes():
    x, y = arrays()
    y = (y > 0).astype("float32")
    return (x, y), {"batch_size": BATCH, "class_weight": {0: 1.0, 1: 3.0}}


def images():
    x = np.random.default_rng(0).random((SAMPLES, 6, 6, 1)).astype("float32")
    y = x.mean((1, 2, 3))[:, None]
    return (x, y), {"batch_size": BATCH, "validation_data": (x[:8], y[:8])}


def augmented():
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.RandomFlip(),
            layers.RandomTranslation(0.2, 0.2),
            layers.RandomContrast(0.2),
            layers.GaussianNoise(0.1),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )
    model.compile("adam", "mse")
    return model


def mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        return resumed_runs.plain_model()
    finally:
        keras.config.set_dtype_policy("float32")


def loader_with_workers():
    return (resumed_runs.data_loader(workers=2),), {"shuffle": False}


def endless(batches):
    def make():
        return (batches(),), {"steps_per_epoch": 4, "shuffle": False}

    return make


def in_parts():
    return arrays(), {"batch_size": BATCH, "steps_per_epoch": 3}


def loader_in_parts():
    return (resumed_runs.data_loader(),), {"steps_per_epoch": 3, "shuffle": False}


class Endless(resumed_runs.Batches):
    """Has no end; it looks at its index, and draws for each batch."""

    num_batches = None

    def __getitem__(self, index):
        return super().__getitem__(int(self.rng.integers(5)))

    def on_epoch_end(self):
        pass


def shuffled_validation():
    return arrays(), {"batch_size": BATCH, "validation_data": resumed_runs.tf_dataset()}


def drawn_validation():
    return arrays(), {"batch_size": BATCH, "validation_data": resumed_runs.Batches()}


def loaded_validation():
    return loader_with_validation(resumed_runs.data_loader())


def loader_with_validation(data):
    return (resumed_runs.data_loader(),), {"shuffle": False, "validation_data": data}


FEATURES = {
    "steps_per_execution": {"make": model_with(steps_per_execution=2)},
    "jit_compile": {"make": model_with(jit_compile=True)},
    "accumulation-ema": {
        "make": lambda: resumed_runs.plain_model(
            optimizer=keras.optimizers.Adam(
                gradient_accumulation_steps=3, use_ema=True, ema_overwrite_frequency=4
            )
        )
    },
    "loss-scale": {
        "make": lambda: resumed_runs.plain_model(
            optimizer=keras.optimizers.LossScaleOptimizer(
                keras.optimizers.Nadam(), initial_scale=4.0, dynamic_growth_steps=3
            )
        )
    },
    "mixed_float16": {"make": mixed_precision},
    "augmentation": {"kind": images, "make": augmented},
    "sample-weights": {"kind": weighted, "make": model_with(weighted_metrics=["mae"])},
    "class-weights": {"kind": classes},
    "two-outputs": {"kind": two_targets, "make": two_outputs},
    "own-step-unbuilt": {"make": compiled(OwnStep)},
    "two-inputs-unbuilt": {"kind": two_inputs, "make": compiled(TwoInputs)},
    "DataLoader-workers": {"kind": loader_with_workers, "read_ahead": True},
    "validation_freq": {"validation_freq": 2},
    "validation-tf.data": {"kind": shuffled_validation, "same_seed": True, "validation_freq": 1},
    "validation-PyDataset": {"kind": drawn_validation},
    "validation-DataLoader": {"kind": loaded_validation},
    "steps_per_epoch-arrays": {"kind": in_parts, "epochs": 4},
    "steps_per_epoch-DataLoader": {"kind": loader_in_parts, "epochs": 4},
    "steps_per_epoch-PyDataset": {"kind": endless(Endless), "epochs": 3},
    "steps_per_epoch-tf.data": {
        "kind": endless(lambda: resumed_runs.tf_dataset().repeat()),
        "epochs": 3,
        "same_seed": True,
    },
    "steps_per_epoch-executions": {
        "kind": endless(lambda: resumed_runs.tf_dataset().repeat()),
        "make": model_with(steps_per_execution=2),
        "epochs": 3,
        "same_seed": True,
    },
}
NEEDS = {"tf.data": "tensorflow", "executions": "tensorflow", "DataLoader": "torch"}


def why_not(name, backend):
    """Why a feature is not tried on a backend, or `None`."""
    if backend == "torch" and name in (
        *("steps_per_execution", "jit_compile", "steps_per_epoch-executions"),
    ):
        return "Keras has no steps_per_execution on PyTorch; its jit_compile is torch.compile"
    of_python = "DataLoader" in name or "PyDataset" in name
    if backend == "tensorflow" and name.startswith(("steps_per_epoch", "validation")) and of_python:
        return "TensorFlow reads data that is written in Python ahead: told at the start"
    if backend == "tensorflow" and name == "DataLoader-workers" and _forgets_foreign_threads():
        return "this Python ends a process that was forked by TensorFlow's reader with status 1"
    return None


def _forgets_foreign_threads():
    """A worker then ends with an error, of which PyTorch may learn: with plain Keras, too.

    https://github.com/python/cpython/issues/102512
    """
    mended = {11: (3, 11, 8), 12: (3, 12, 2)}
    return sys.version_info < mended.get(sys.version_info.minor, (3, 11))
