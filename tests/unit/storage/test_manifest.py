"""The manifest as bytes: older ones are read, and one that names other folders' files is not."""

from __future__ import annotations

import hashlib
import json

import pytest

from keras_callbacks_plus.errors import ManifestError
from keras_callbacks_plus.storage import CheckpointStore
from tests.helpers.checkpoint_folder import commit


def rewrite(path, change):
    """Changes the content, and makes the checksum right again."""
    document = json.loads(path.read_text())
    change(document["content"])
    body = json.dumps(document["content"], sort_keys=True)
    document["checksum"] = "sha256:" + hashlib.sha256(body.encode()).hexdigest()
    path.write_text(json.dumps(document, indent=1) + "\n")


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
    """As the first version wrote it."""

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
