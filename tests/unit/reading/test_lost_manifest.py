"""Reading a folder whose manifest is lost: what the files say, and nothing is changed."""

from __future__ import annotations

import warnings

import pytest

import keras_callbacks_plus as kcp
from keras_callbacks_plus.errors import CheckpointWarning, ManifestError
from tests.helpers.checkpoint_folder import archive_carrying, commit, damage


def archive(loss, time):
    """A zip that carries its record, as a `.keras` file does."""
    facts = {"series": "{epoch}.keras", "kind": "model", "batch": None, "step": None}
    facts |= {"monitor": "val_loss", "mode": "min"}
    return archive_carrying(
        {**facts, "epoch": time, "time": float(time), "metrics": {"val_loss": loss}}
    )


@pytest.fixture
def folder(tmp_path):
    """As ModelCheckpoint leaves it."""
    for i, loss in enumerate([0.5, 0.25, 0.75]):
        commit(tmp_path, f"{i}.keras", {"val_loss": loss}, data=archive(loss, i))
    return tmp_path


@pytest.fixture
def lost(folder):
    (folder / "checkpoints.json").unlink()
    return folder


def said(folder):
    with pytest.warns(CheckpointWarning) as caught:
        saved = kcp.checkpoints(folder)
    assert {w.filename for w in caught} == {__file__}
    return saved, " ".join(str(w.message) for w in caught)


def test_the_files_are_listed_with_a_warning_that_says_what_happened(lost):
    before = {path: path.stat().st_mtime_ns for path in lost.iterdir()}
    saved, text = said(lost)
    assert "checkpoints.json is gone. Listed is each checkpoint that carries a record" in text
    assert "writes the manifest anew" in text
    assert saved.is_rebuilt
    assert [c.name for c in saved] == ["0.keras", "1.keras", "2.keras"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it has been said
        assert (saved.best().name, saved.latest().name) == ("1.keras", "2.keras")
        saved.plan(kcp.policies.LatestN(1))
    assert {path: path.stat().st_mtime_ns for path in lost.iterdir()} == before


def test_nothing_is_said_where_there_is_nothing(folder, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not kcp.checkpoints(folder).is_rebuilt
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "mine.keras").write_bytes(b"of somebody else")
        assert len(kcp.checkpoints(tmp_path / "new")) == 0


def test_a_folder_that_was_emptied_is_not_one_whose_manifest_is_lost(folder):
    """What the manifest does not name is not ours any more, whatever the file says."""
    copy = (folder / "0.keras").read_bytes()
    kcp.checkpoints(folder).prune(kcp.policies.LatestN(1))
    (folder / "0.keras").write_bytes(copy)
    assert [c.name for c in kcp.checkpoints(folder)] == ["2.keras"]


def test_a_damaged_manifest_is_as_good_as_lost(folder):
    damage(folder / "checkpoints.json", 300)
    damaged = (folder / "checkpoints.json").read_bytes()
    saved, text = said(folder)
    assert "checkpoints.json is damaged between bytes 0 and" in text
    assert len(saved) == 3
    assert (folder / "checkpoints.json").read_bytes() == damaged
    with pytest.raises(ManifestError, match="is damaged"):
        saved.verify()


def test_a_damaged_archive_is_named_and_left_out(lost):
    damage(lost / "1.keras", 60)
    saved, text = said(lost)
    assert "1.keras is damaged, and is not listed." in text
    assert saved.best().name == "0.keras"


def test_the_folder_is_not_called_whole(lost):
    saved, _ = said(lost)
    with pytest.raises(ManifestError, match=r"s\.json is gone\. The files that are listed"):
        saved.verify()
    for checkpoint in saved:  # as they were when they were listed
        checkpoint.verify()


def test_pruning_writes_the_manifest_anew(lost):
    saved, _ = said(lost)
    saved.prune(kcp.policies.BestN(1))
    assert not saved.is_rebuilt
    assert [c.name for c in kcp.checkpoints(lost)] == ["1.keras"]
    assert sorted(path.name for path in lost.glob("*.keras")) == ["1.keras"]
