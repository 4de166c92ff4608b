"""`kcp.checkpoints` of a URL: the same answers, and nothing is left on this machine."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

import keras_callbacks_plus as kcp
from keras_callbacks_plus.errors import (
    CheckpointCorruptedError,
    CheckpointNotFoundError,
    CheckpointWarning,
    InvalidArgumentError,
)
from tests.helpers.checkpoint_folder import commit

fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def url():
    url = f"memory://{uuid.uuid4().hex}/run"
    for i, loss in enumerate([0.5, 0.25, 0.75]):
        commit(url, f"{i}.keras", {"val_loss": loss}, monitor="val_loss", mode="min")
    return url


def damage(path):
    driver = fsspec.filesystem("memory")
    data = bytearray(driver.cat_file(path))
    data[70] ^= 1
    driver.pipe_file(path, bytes(data))


def test_it_is_listed_and_asked_as_a_folder_is(url):
    saved = kcp.checkpoints(url)
    assert [c.path for c in saved] == [f"{url}/{i}.keras" for i in range(3)]
    assert (saved.best().name, saved.latest().name) == ("1.keras", "2.keras")
    assert repr(saved).startswith(f"3 checkpoints in {url}\n")
    saved.verify()
    saved.prune(kcp.policies.BestN(1))
    assert [c.name for c in kcp.checkpoints(url)] == ["1.keras"]
    assert not fsspec.filesystem("memory").exists(f"{url}/0.keras")


def test_a_slash_at_the_end_is_the_same_folder(url):
    assert kcp.checkpoints(f"{url}/").best().name == "1.keras"


def test_a_damaged_object_is_skipped_and_named_by_its_url(url):
    damage(f"{url}/1.keras")
    with pytest.warns(CheckpointWarning, match=f"{url}/1.keras is damaged .* it is byte 70"):
        assert kcp.checkpoints(url).best().name == "0.keras"
    with pytest.raises(CheckpointCorruptedError):
        kcp.checkpoints(url).verify()


def test_an_object_that_is_gone_is_skipped(url):
    fsspec.filesystem("memory").rm_file(f"{url}/1.keras")
    with pytest.warns(CheckpointWarning, match=f"{url}/1.keras is gone"):
        assert kcp.checkpoints(url).best().name == "0.keras"


def test_where_there_is_nothing_it_says_so(url):
    with pytest.raises(CheckpointNotFoundError, match=f"There is nothing in {url}/nowhere"):
        kcp.checkpoints(f"{url}/nowhere")


def test_a_path_object_that_lost_a_slash_is_refused_with_the_line_to_write(url):
    with pytest.raises(InvalidArgumentError, match=f'Write "{url}"'):
        kcp.checkpoints(Path(url))
