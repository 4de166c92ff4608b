"""The manifest as bytes: older ones are read, one that names other folders' files is not."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from pathlib import Path

import pytest

from keras_callbacks_plus.errors import ManifestError
from keras_callbacks_plus.storage import CheckpointStore
from keras_callbacks_plus.storage.manifest import VERSION, Manifest, as_written
from tests.helpers.checkpoint_folder import commit


def rewrite(path, change):
    """Changes the content, and makes the checksum right again."""
    document = json.loads(path.read_text())
    change(document["content"])
    body = json.dumps(document["content"])
    document["checksum"] = "sha256:" + hashlib.sha256(body.encode()).hexdigest()
    path.write_bytes(as_written(document))


@pytest.fixture
def manifest(tmp_path):
    commit(tmp_path, "a.keras", {"loss": 0.5}, monitor="loss", mode="min")
    return tmp_path / "checkpoints.json"


@pytest.mark.parametrize("name", ["../a.keras", "/etc/passwd", "b/a.keras", "..", "", "a\0"])
def test_a_name_that_leaves_the_folder_is_refused(manifest, name):
    """Whatever is named may be removed one day."""
    for change in (
        lambda content: content["records"][0].update(path=name),
        lambda content: content.update(evicting=[name]),
    ):
        good = manifest.read_bytes()
        rewrite(manifest, change)
        with pytest.raises(ManifestError, match="which is no file of its own folder"):
            CheckpointStore(manifest.parent).records()
        manifest.write_bytes(good)
    assert len(CheckpointStore(manifest.parent).records()) == 1


def test_a_manifest_without_the_ranking_is_read(manifest):
    """As the very first version wrote it."""

    def forget(content):
        del content["records"][0]["monitor"], content["records"][0]["mode"]

    rewrite(manifest, forget)
    (record,) = CheckpointStore(manifest.parent).records()
    assert (record.monitor, record.mode) == (None, None)
    CheckpointStore(manifest.parent).verify_manifest()


def test_a_fact_that_is_not_known_here_is_passed_over(manifest):
    """As a later version may write it."""
    rewrite(manifest, lambda content: content["records"][0].update(colour="red"))
    (record,) = CheckpointStore(manifest.parent).records()
    assert record.monitor == "loss"
    CheckpointStore(manifest.parent).verify_manifest()


STORED = Path(__file__).parents[2] / "fixtures" / "manifest_version_1"


@pytest.fixture
def first_version(tmp_path):
    """A folder as version 1 of the format left it."""
    return Path(shutil.copytree(STORED, tmp_path / "run"))


def test_version_1_is_read_and_every_byte_of_it_is_checked(first_version):
    store = CheckpointStore(first_version)
    best, newest, last = store.records()
    assert (best.path, best.epoch, best.step, best.metrics["val_loss"]) == (
        "01.weights.h5",
        0,
        1,
        0.5,
    )
    assert (newest.sequence, newest.monitor, newest.mode) == (1, "val_loss", "min")
    assert (last.series, last.kept_because) == ("last.weights.h5", "latest of 1")
    assert [line.action for line in store.ledger()] == ["kept"] * 7
    for record in store.records():
        store.verify(record)
    store.verify_manifest()
    path = first_version / "checkpoints.json"
    path.write_bytes(path.read_bytes().replace(b"0.25\n", b"2.5e-1\n", 1))
    with pytest.raises(ManifestError):
        store.verify_manifest()


def test_version_1_becomes_the_present_one_with_the_next_commit(first_version):
    before = CheckpointStore(first_version).records()
    commit(first_version, "new.keras", {"loss": 0.1})
    store = CheckpointStore(first_version)
    store.verify_manifest()
    document = json.loads((first_version / "checkpoints.json").read_text())
    assert document["version"] == VERSION
    assert store.records()[:3] == before
    assert [store.records()[3].path, store.records()[3].sequence] == ["new.keras", 6]
    for record in store.records():
        store.verify(record)


def test_a_record_is_a_line(manifest):
    commit(manifest.parent, "b.keras", {"loss": math.nan, "acc": 0.5})
    lines = [line for line in manifest.read_text().splitlines() if '"path": "b.keras"' in line]
    assert json.loads(lines[0].rstrip(",]"))["metrics"] == {"loss": "nan", "acc": 0.5}


def test_what_was_written_is_not_parsed_again(manifest, monkeypatch):
    """Thousands of records would hold up the training at each save."""
    parsed = []
    from_bytes = Manifest.from_bytes
    monkeypatch.setattr(
        Manifest, "from_bytes", lambda data, path: parsed.append(path) or from_bytes(data, path)
    )
    store = CheckpointStore(manifest.parent)
    record = store.records()[0]
    for name in ("b.keras", "c.keras"):
        commit(store, name)
        assert store.records()[-1].path == name
    assert len(parsed) == 1
    assert store.records()[0] is record  # and keeps its JSON
    commit(manifest.parent, "d.keras")  # another store
    assert store.records()[-1].path == "d.keras"
    assert store.records() == CheckpointStore(manifest.parent).records()
