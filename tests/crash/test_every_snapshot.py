"""A run is resumed from every snapshot it took, and ends with the same bits each time."""

from __future__ import annotations

import importlib.util

import keras
import pytest

from tests.helpers import resumed_runs

pytestmark = pytest.mark.backend

NEEDS = {"tf": "tensorflow", "Data": "torch", "grain": "grain"}


def resume_from(tmp_path, some, kind="arrays", *, same_seed=False, **more):
    """The snapshots from which the end is another one, with what differs in it."""
    for prefix, module in NEEDS.items():
        if (
            isinstance(kind, str)
            and kind.startswith(prefix)
            and not importlib.util.find_spec(module)
        ):
            pytest.skip(f"needs {module}")
    folder, aside = tmp_path / "run", tmp_path / "aside"
    folder.mkdir()
    with resumed_runs.every_snapshot(folder, aside):
        whole = resumed_runs.train(folder, kind, **more)
    snapshots = sorted(aside.iterdir())
    assert len(snapshots) >= 2
    # the order of TensorFlow's data follows the seed of the process
    same_seed = same_seed or keras.backend.backend() == "tensorflow" or str(kind).startswith("tf")
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


@pytest.mark.parametrize("kind", ["arrays", "PyDataset", "tf.data", "DataLoader", "resumable"])
def test_a_run_resumed_within_an_epoch_ends_with_the_same_bits(tmp_path, kind):
    assert resume_from(tmp_path, a_few, kind) == {}


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(resumed_runs.INPUTS))
def test_every_input_is_resumed_from_every_snapshot(tmp_path, kind):
    assert resume_from(tmp_path, list, kind) == {}
