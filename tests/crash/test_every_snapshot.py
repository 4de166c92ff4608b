"""A run is resumed from every snapshot it took, and ends with the same bits each time."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tests.helpers import resumed_runs

pytestmark = [
    pytest.mark.backend,
    pytest.mark.filterwarnings("ignore:.*which is not available"),  # an epoch without validation
    pytest.mark.filterwarnings("ignore:Your input ran out of data"),  # how Keras finds a length
]


def resume_from(tmp_path, some, kind="arrays", *, same_seed=False, **more):
    """The snapshots from which the end is another one, with what differs in it."""
    if isinstance(kind, str) and resumed_runs.missing(kind):
        pytest.skip(f"needs {', '.join(resumed_runs.missing(kind))}")
    folder, aside = tmp_path / "run", tmp_path / "aside"
    folder.mkdir()
    with resumed_runs.every_snapshot(folder, aside):
        whole = resumed_runs.train(folder, kind, **more)
    snapshots = sorted(aside.iterdir())
    assert len(snapshots) >= 2
    same_seed = same_seed or resumed_runs.follows_the_seed(str(kind))
    wrong = {}
    for snapshot in some(snapshots):
        resumed = resumed_runs.train(snapshot, kind, seed=1 if same_seed else 99, **more)
        differs = resumed_runs.differing(whole, resumed)
        if differs:
            wrong[snapshot.name] = differs
    return wrong


def a_few(snapshots):
    """Within the first epoch, at the last batch of it, and within the second."""
    return [snapshots[3], snapshots[6], snapshots[-4]]


def within_the_second_epoch(snapshots):
    return [snapshots[-4]]


def test_a_run_resumed_within_an_epoch_ends_with_the_same_bits(tmp_path):
    assert resume_from(tmp_path, a_few) == {}


@pytest.mark.parametrize("kind", ["PyDataset", "tf.data", "DataLoader", "resumable"])
def test_other_data_is_resumed_within_an_epoch(tmp_path, kind):
    assert resume_from(tmp_path, within_the_second_epoch, kind) == {}


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(resumed_runs.INPUTS))
def test_every_input_is_resumed_from_every_snapshot(tmp_path, kind):
    assert resume_from(tmp_path, list, kind) == {}


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


def own_step():
    model = OwnStep()
    model.compile("adam", "mse", metrics=["mae"])
    return model


def two_outputs():
    inputs = keras.Input((4,))
    hidden = keras.layers.Dropout(0.2)(keras.layers.Dense(5)(inputs))
    outputs = {name: keras.layers.Dense(1, name=name)(hidden) for name in ("a", "b")}
    model = keras.Model(inputs, outputs)
    losses = {"a": "mse", "b": "mae"}
    model.compile("sgd", losses, loss_weights={"a": 1.0, "b": 0.5}, metrics={"a": ["mae"]})
    return model


def two_targets():
    x, y = resumed_runs.arrays()
    return (x, {"a": y, "b": -y}), {
        "batch_size": resumed_runs.BATCH,
        "validation_data": (x[:8], {"a": y[:8], "b": -y[:8]}),
    }


def model_with(**compiled):
    return lambda: resumed_runs.plain_model(**compiled)


def weighted():
    x, y = resumed_runs.arrays()
    weights = np.linspace(0.1, 1.0, len(x)).astype("float32")
    return (x, y), {"batch_size": resumed_runs.BATCH, "sample_weight": weights}


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
    "sample-weights": {"kind": weighted, "make": model_with(weighted_metrics=["mae"])},
    "two-outputs": {"kind": two_targets, "make": two_outputs},
    "own-step-unbuilt": {"make": own_step},
    "validation_freq": {"validation_freq": 2},
}
QUICK = ["steps_per_execution", "own-step-unbuilt"]


def run_feature(tmp_path, name, some):
    backend = keras.backend.backend()
    if backend == "torch" and name in ("steps_per_execution", "jit_compile"):
        pytest.skip("Keras has no steps_per_execution on PyTorch; its jit_compile is torch.compile")
    arguments = dict(FEATURES[name])
    return resume_from(tmp_path, some, arguments.pop("kind", "arrays"), **arguments)


@pytest.mark.parametrize("name", QUICK)
def test_a_run_with_a_feature_is_resumed_within_an_epoch(tmp_path, name):
    assert run_feature(tmp_path, name, within_the_second_epoch) == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(FEATURES))
def test_a_run_with_a_feature_is_resumed_from_every_snapshot(tmp_path, name):
    assert run_feature(tmp_path, name, list) == {}
