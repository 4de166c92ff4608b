"""On a full disk, removing frees space, and nothing that is to stay is lost."""

from __future__ import annotations

import errno
import os

import pytest

from keras_callbacks_plus import cli
from keras_callbacks_plus.errors import StorageError
from keras_callbacks_plus.storage import CheckpointStore, LocalFileSystem
from tests.helpers.checkpoint_folder import Payload, commit

NAMES = ["a.keras", "b.keras", "c.keras"]


class Full(LocalFileSystem):
    """Takes no byte more while the checkpoints of a folder take more than `space` bytes."""

    def __init__(self, folder, space):
        self.folder, self.space = folder, space

    def write(self, descriptor, data):
        if sum(path.stat().st_size for path in self.folder.glob("*.keras")) > self.space:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.write(descriptor, data)


@pytest.fixture
def folder(tmp_path):
    for name in NAMES:
        commit(tmp_path, name, data=bytes(1000))
    return tmp_path


def remove(folder, *names, space):
    remove_from(CheckpointStore(folder, filesystem=Full(folder, space)), *names)


def remove_from(store, *names):
    with store.transaction() as transaction:
        transaction.decide(lambda _: dict.fromkeys(names, (False, "no longer wanted")))


def files(folder):
    return sorted(path.name for path in folder.glob("*.keras"))


def test_what_is_to_go_goes_first_and_the_manifest_follows(folder):
    remove(folder, "a.keras", space=2000)
    assert files(folder) == NAMES[1:]
    store = CheckpointStore(folder)
    assert [r.path for r in store.records()] == NAMES[1:]
    assert store.ledger()[-1].reason == "no longer wanted"
    assert store.recover() == []
    for record in store.records():
        store.verify(record)


def test_where_even_that_does_not_help_it_says_what_is_gone_and_the_next_commit_settles_it(folder):
    with pytest.raises(StorageError, match=r"a\.keras was removed, and .*still lists them. Free"):
        remove(folder, "a.keras", space=0)
    assert files(folder) == NAMES[1:]
    assert [r.path for r in CheckpointStore(folder).records()] == NAMES
    (fact,) = CheckpointStore(folder).recover()
    assert "a.keras was removed by someone else" in fact
    assert [r.path for r in CheckpointStore(folder).records()] == NAMES[1:]


def test_after_that_more_can_be_removed(folder):
    with pytest.raises(StorageError):
        remove(folder, "a.keras", space=1000)
    remove(folder, "b.keras", space=1000)
    assert files(folder) == ["c.keras"]
    assert [r.path for r in CheckpointStore(folder).records()] == ["c.keras"]


@pytest.fixture
def filled(folder):
    """A save has given its file the name, and no space was left for the manifest that says so."""
    store = CheckpointStore(folder, filesystem=Full(folder, 3000))
    with pytest.raises(StorageError, match="kcp rm DIR --keep POLICY"):
        commit(store, "d.keras", data=bytes(1000))
    assert files(folder) == [*NAMES, "d.keras"]  # new before old: none of them went for it
    return folder


def test_what_a_save_left_on_the_full_disk_is_no_hindrance(filled):
    remove(filled, "a.keras", space=3000)
    assert files(filled) == [*NAMES[1:], "d.keras"]
    assert [r.path for r in CheckpointStore(filled).records()] == [*NAMES[1:], "d.keras"]


def replace_all(store):
    """One new file in place of all older ones."""
    facts = {"epoch": 4, "batch": None, "step": None, "metrics": {}}
    with store.transaction() as transaction:
        transaction.commit("d.keras", Payload(bytes(9)), series="s", kind="model", **facts)
        transaction.decide(lambda _: dict.fromkeys(NAMES, (False, "the newest is enough")))


def test_for_a_new_file_no_older_one_goes_first(folder):
    with pytest.raises(StorageError):
        replace_all(CheckpointStore(folder, filesystem=Full(folder, 3000)))
    assert files(folder) == [*NAMES, "d.keras"]


def test_another_error_removes_nothing(folder):
    class ReadOnly(LocalFileSystem):
        def write(self, descriptor, data):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    store = CheckpointStore(folder, filesystem=ReadOnly())
    with pytest.raises(StorageError):
        remove_from(store, "a.keras")
    assert files(folder) == NAMES


def test_the_command_does_it(folder, monkeypatch):
    full = Full(folder, 2000)
    monkeypatch.setattr(LocalFileSystem, "write", lambda _, *arguments: full.write(*arguments))
    assert cli.main(["rm", str(folder), "a.keras"]) == 0
    assert files(folder) == NAMES[1:]
