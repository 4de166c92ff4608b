"""A run is resumed from every snapshot it took, and ends with the same bits each time."""

from __future__ import annotations

import keras
import pytest

from tests.helpers import resumed_features, resumed_runs

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


QUICK = ["steps_per_execution", "own-step-unbuilt", "steps_per_epoch-tf.data"]


def run_feature(tmp_path, name, some):
    reason = resumed_features.why_not(name, keras.backend.backend())
    if reason is not None:
        pytest.skip(reason)
    for part, module in resumed_features.NEEDS.items():
        if part in name:
            pytest.importorskip(module)
    arguments = dict(resumed_features.FEATURES[name])
    return resume_from(tmp_path, some, arguments.pop("kind", "arrays"), **arguments)


@pytest.mark.parametrize("name", QUICK)
def test_a_run_with_a_feature_is_resumed_within_an_epoch(tmp_path, name):
    assert run_feature(tmp_path, name, within_the_second_epoch) == {}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # the workers of a DataLoader
@pytest.mark.filterwarnings("ignore:.*fork:RuntimeWarning")  # the same, as JAX says it
@pytest.mark.parametrize("name", list(resumed_features.FEATURES))
def test_a_run_with_a_feature_is_resumed_from_every_snapshot(tmp_path, name):
    assert run_feature(tmp_path, name, list) == {}
