"""`kcp.checkpoints`: which is best, which is newest, and what happens where a file is damaged."""

from __future__ import annotations

import copy
import math
import pickle
import warnings

import pytest

import keras_callbacks_plus as kcp
from keras_callbacks_plus.errors import (
    CheckpointCorruptedError,
    CheckpointNotFoundError,
    CheckpointWarning,
    InvalidArgumentError,
    ManifestError,
    MissingMetricError,
)
from keras_callbacks_plus.policies import Monitor
from keras_callbacks_plus.storage.folder import Folder
from tests.helpers.checkpoint_folder import commit, damage

LOSSES = [0.9, 0.25, math.nan, 0.5]


@pytest.fixture
def folder(tmp_path):
    for i, loss in enumerate(LOSSES, start=1):
        metrics = {"val_loss": loss, "val_accuracy": i / 10, "score": -float(i)}
        commit(tmp_path, f"{i:02d}.keras", metrics, monitor="val_loss", mode="min")
    return tmp_path


def test_is_a_sequence_oldest_first(folder):
    saved = kcp.checkpoints(folder)
    names = ["01.keras", "02.keras", "03.keras", "04.keras"]
    assert [c.name for c in saved] == names
    assert [c.path for c in saved] == [str(folder / name) for name in names]
    assert len(saved) == 4
    assert saved[-1].name == "04.keras"
    assert [c.name for c in saved[1:3]] == names[1:3]
    assert saved[0] in saved
    assert saved.index(saved[2]) == 2
    assert saved.series == ("{epoch:02d}.keras",)


def test_a_checkpoint_holds_what_the_manifest_does(folder):
    c = kcp.checkpoints(folder)[1]
    assert (c.epoch, c.batch, c.step, c.size, c.time) == (1, None, None, 170, 1_700_000_000.0)
    assert (c.kind, c.monitor, c.mode, c.sequence) == ("model", "val_loss", "min", 1)
    assert dict(c.metrics) == {"val_loss": 0.25, "val_accuracy": 0.2, "score": -2.0}
    with pytest.raises(TypeError):
        c.metrics["val_loss"] = 0.0
    assert "epoch=1" in repr(c)
    assert "'val_loss': 0.25" in repr(c)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({}, "02.keras"),
        ({"mode": "max"}, "01.keras"),
        ({"monitor": "val_accuracy"}, "04.keras"),
        ({"monitor": "val_accuracy", "mode": "min"}, "01.keras"),
        ({"monitor": "score", "mode": "max"}, "01.keras"),
        ({"monitor": Monitor("score", "min")}, "04.keras"),
    ],
)
def test_best(folder, arguments, name):
    assert kcp.checkpoints(folder).best(**arguments).name == name


def test_best_follows_what_its_callback_ranks_by(tmp_path):
    for i, score in enumerate([3.0, 1.0, 2.0]):
        commit(tmp_path, f"{i}", {"score": score, "val_loss": score}, monitor="score", mode="max")
    assert kcp.checkpoints(tmp_path).best().name == "0"
    assert kcp.checkpoints(tmp_path).best("score").name == "0"
    assert kcp.checkpoints(tmp_path).best("val_loss").name == "1"


def test_a_manifest_that_does_not_say_is_ranked_by_val_loss(tmp_path):
    for i, loss in enumerate([3.0, 1.0, 2.0]):
        commit(tmp_path, f"{i}", {"val_loss": loss})
    assert kcp.checkpoints(tmp_path).best().name == "1"


def test_of_equal_ones_the_first_saved_is_best(tmp_path):
    for i in range(3):
        commit(tmp_path, f"{i}", {"val_loss": 0.5})
    assert kcp.checkpoints(tmp_path).best().name == "0"


def test_latest(folder):
    assert kcp.checkpoints(folder).latest().name == "04.keras"


def test_best_without_its_metric_lists_those_there_are(tmp_path):
    commit(tmp_path, "a", {"loss": 1.0, "mae": 2.0})
    with pytest.raises(MissingMetricError, match=r"'val_loss'.*Available metrics: loss, mae"):
        kcp.checkpoints(tmp_path).best()


def test_best_asks_for_the_mode_of_an_unknown_metric(folder):
    with pytest.raises(InvalidArgumentError, match='pass `mode="min"` or `mode="max"`'):
        kcp.checkpoints(folder).best("score")
    with pytest.raises(InvalidArgumentError, match='"auto", "min", "max"'):
        kcp.checkpoints(folder).best("score", "up")


def test_best_where_no_value_ranks(tmp_path):
    commit(tmp_path, "a", {"val_loss": math.nan})
    with pytest.raises(CheckpointNotFoundError, match=r"'val_loss'.*or take `latest\(\)`"):
        kcp.checkpoints(tmp_path).best()


def test_a_damaged_best_is_skipped_and_its_bytes_named(folder):
    damage(folder / "02.keras")
    saved = kcp.checkpoints(folder)
    expected = r"02\.keras is damaged between bytes 0 and 170.*next best: .*04\.keras"
    with pytest.warns(CheckpointWarning, match=expected) as caught:
        assert saved.best().name == "04.keras"
    assert [w.filename for w in caught] == [__file__]


def test_a_missing_latest_is_skipped(folder):
    (folder / "04.keras").unlink()
    with pytest.warns(CheckpointWarning, match=r"04\.keras is gone.*the one before: .*03\.keras"):
        assert kcp.checkpoints(folder).latest().name == "03.keras"


def test_none_left_is_an_error_that_names_every_one(folder):
    for name in ("01", "02", "04"):
        damage(folder / f"{name}.keras")
    with pytest.raises(CheckpointNotFoundError) as error:
        kcp.checkpoints(folder).best()
    assert all(f"{name}.keras is damaged between" in str(error.value) for name in ("01", "02"))


def test_nothing_is_read_but_what_is_asked_for(folder):
    """A damaged file that is not the best goes unnoticed by `best`, and is found by `verify`."""
    damage(folder / "01.keras")
    saved = kcp.checkpoints(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        saved.best()
    with pytest.raises(CheckpointCorruptedError) as error:
        saved.verify()
    assert error.value.path == str(folder / "01.keras")
    assert (error.value.offset, error.value.end) == (0, 170)


def test_a_folder_without_checkpoints_is_empty_and_asking_it_says_where_there_are_some(tmp_path):
    folder = tmp_path / "runs" / "a"
    commit(folder, "1.keras")
    empty = kcp.checkpoints(tmp_path)
    assert (len(empty), list(empty), empty.series, empty.ledger) == (0, [], (), ())
    for ask in (empty.best, empty.latest):
        with pytest.raises(CheckpointNotFoundError, match=f"There are some in {folder}"):
            ask()
    with pytest.raises(CheckpointNotFoundError, match="There is no folder"):
        kcp.checkpoints(folder / "nowhere")


def test_a_damaged_manifest_is_an_error_and_stays(folder):
    damage(folder / "checkpoints.json", 300)
    before = (folder / "checkpoints.json").read_bytes()
    with pytest.raises(ManifestError, match="checkpoints.json is damaged"):
        kcp.checkpoints(folder)
    assert (folder / "checkpoints.json").read_bytes() == before


@pytest.mark.parametrize("again", [lambda x: pickle.loads(pickle.dumps(x)), copy.deepcopy])
def test_they_can_be_sent_to_another_process(folder, again):
    saved = kcp.checkpoints(folder)
    one = again(saved[1])
    assert one == saved[1]
    one.verify()
    with pytest.raises(TypeError):
        one.metrics["val_loss"] = 0.0
    (folder / "checkpoints.json").unlink()
    assert [c.path for c in again(saved)] == [c.path for c in saved]
    assert again(saved).best().name == "02.keras"


def test_reading_changes_nothing(folder):
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    saved = kcp.checkpoints(folder)
    saved.best()
    saved.latest()
    saved.plan(kcp.policies.LatestN(1))
    saved._repr_html_()
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


# ------------------------------------------------------------------ several series


@pytest.fixture
def mixed(tmp_path):
    for i in range(2):
        commit(tmp_path, f"a{i}", {"val_loss": 1.0 - i}, series="a", monitor="val_loss", mode="min")
        commit(tmp_path, f"b{i}", {"score": float(i)}, series="b", monitor="score", mode="max")
    commit(tmp_path, "snapshot", series="snapshots", kind="training_state")
    return tmp_path


def test_series_are_told_apart(mixed):
    saved = kcp.checkpoints(mixed)
    assert saved.series == ("a", "b", "snapshots")
    assert saved.best(series="a").name == "a1"
    assert saved.best(series="b").name == "b1"
    assert saved.best("score").name == "b1"
    assert saved.latest(series="a").name == "a1"
    assert saved.latest().name == "b1"  # not a snapshot, which is no model
    assert saved.latest(series="snapshots").name == "snapshot"


def test_series_that_disagree_have_no_common_best(mixed):
    expected = r"'a' by val_loss \(min\), 'b' by score \(max\)"
    with pytest.raises(InvalidArgumentError, match=expected):
        kcp.checkpoints(mixed).best()


def test_an_unknown_series_lists_those_there_are(mixed):
    for ask in (kcp.checkpoints(mixed).best, kcp.checkpoints(mixed).latest):
        with pytest.raises(InvalidArgumentError, match="There are: 'a', 'b', 'snapshots'"):
            ask(series="c")


def test_what_cannot_be_loaded_says_what_to_do_instead(mixed):
    commit(mixed, "w", kind="weights", series="w")
    saved = kcp.checkpoints(mixed)
    with pytest.raises(InvalidArgumentError, match=r"call `load_weights\(model\)`"):
        saved.latest(series="w").load_model()
    for load in ("load_model", "load_weights"):
        with pytest.raises(InvalidArgumentError, match="`fit` it with that callback"):
            getattr(saved.latest(series="snapshots"), load)(*[None] * (load == "load_weights"))


# ------------------------------------------------------------------ a training goes on meanwhile


def test_a_file_that_was_replaced_since_is_not_called_damaged(tmp_path):
    """`best.keras` under one name: the manifest was read before a save, the file after it."""
    commit(tmp_path, "best.keras", {"val_loss": 0.5})
    saved = kcp.checkpoints(tmp_path)
    commit(tmp_path, "best.keras", {"val_loss": 0.1}, data=b"new")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert dict(saved.best().metrics) == {"val_loss": 0.1}
        assert saved.latest().size == 3
    with pytest.raises(CheckpointNotFoundError, match="replaced or evicted since"):
        saved[0].verify()


def test_a_commit_that_is_halfway_is_read_as_done(tmp_path, monkeypatch):
    """The new file has its name already, and the manifest that says so is not written yet."""
    commit(tmp_path, "best.keras", {"val_loss": 0.5})
    write = Folder.write

    def stop_before_the_last(self, manifest):
        if manifest.pending is None:
            raise KeyboardInterrupt
        write(self, manifest)

    monkeypatch.setattr(Folder, "write", stop_before_the_last)
    with pytest.raises(KeyboardInterrupt):
        commit(tmp_path, "best.keras", {"val_loss": 0.1}, data=b"new")
    assert kcp.checkpoints(tmp_path)[0].metrics["val_loss"] == 0.5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert kcp.checkpoints(tmp_path).best().metrics["val_loss"] == 0.1


# ------------------------------------------------------------------ looks


def test_repr_is_a_table(folder):
    lines = repr(kcp.checkpoints(folder)).splitlines()
    assert lines[0] == f"4 checkpoints in {folder}"
    assert lines[1].split()[:3] == ["file", "epoch", "val_loss"]
    assert lines[3].split()[:3] == ["02.keras", "2", "0.25"]


def test_a_long_repr_shows_the_newest(tmp_path):
    for i in range(35):
        commit(tmp_path, f"{i:02d}.keras")
    lines = repr(kcp.checkpoints(tmp_path)).splitlines()
    assert len(lines) == 33
    assert lines[2].startswith("05.keras")
    assert lines[-1] == "(the newest 30 of 35)"


def test_html_marks_the_best_and_escapes_names(folder):
    commit(folder, "<b>&.keras", {"val_loss": 0.9}, monitor="val_loss", mode="min")
    html = kcp.checkpoints(folder)._repr_html_()
    assert "&lt;b&gt;&amp;.keras" in html
    assert "<b>&.keras" not in html
    bold = [line for line in html.splitlines() if "<td" in line and "<b>" in line]
    assert len(bold) == 1
    assert "02.keras" in bold[0]


def test_the_ledger_is_there(folder):
    kcp.checkpoints(folder).prune(kcp.policies.LatestN(1))
    lines = [(line.path, line.action) for line in kcp.checkpoints(folder).ledger]
    assert [line for line in lines if line[1] == "evicted"] == [
        (f"0{i}.keras", "evicted") for i in (1, 2, 3)
    ]
