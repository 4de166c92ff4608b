"""A folder of checkpoints: whole files, and a record that agrees with them, whatever happens."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os

import pytest

from keras_callbacks_plus.errors import (
    BackgroundWriteError,
    CheckpointCorruptedError,
    ManifestError,
    StorageError,
)
from keras_callbacks_plus.storage import BackgroundWriter, CheckpointStore, LocalFileSystem
from keras_callbacks_plus.storage.atomic import is_staging_name
from tests.helpers.faults import FaultyFileSystem, ShortWrites, run_in_child


class Text:
    def __init__(self, text):
        self.text = text

    def write_to(self, sink):
        sink.write(self.text.encode())


def commit(store, name, text, *, keep=2, loss=0.5, series="s"):
    """Commits a file, and keeps the latest `keep` of its series."""

    def judge(records):
        members = sorted((r for r in records if r.series == series), key=lambda r: -r.sequence)
        return {r.path: (i < keep, f"number {i + 1}") for i, r in enumerate(members)}

    with store.transaction() as transaction:
        transaction.commit(
            name,
            Text(text),
            series=series,
            kind="model",
            epoch=0,
            batch=None,
            step=1,
            metrics={"loss": loss},
        )
        transaction.decide(judge)


def contents(folder):
    """Every file that is not the store's own, with its text."""
    own = {"checkpoints.json", ".checkpoints.lock"}
    return {n: (folder / n).read_text() for n in sorted(os.listdir(folder)) if n not in own}


def assert_consistent(folder, older):
    """What must hold after any crash or error: the files are those of the manifest, and whole."""
    store = CheckpointStore(folder)
    store.recover()
    records = store.records()
    for record in records:
        store.verify(record)
    assert {r.path for r in records} == set(contents(folder))
    for name, text in older.items():
        assert contents(folder)[name] == text
    return {r.path for r in records}


def test_commit_list_evict(tmp_path):
    store = CheckpointStore(tmp_path / "a", clock=lambda: 12.5)
    for i in range(4):
        commit(store, f"{i}.keras", f"text {i}", loss=1 / (i + 1))
    assert contents(tmp_path / "a") == {"2.keras": "text 2", "3.keras": "text 3"}
    records = CheckpointStore(tmp_path / "a").records("s")
    assert [(r.path, r.sequence, r.time, r.size) for r in records] == [
        ("2.keras", 2, 12.5, 6),
        ("3.keras", 3, 12.5, 6),
    ]
    assert records[0].metrics == {"loss": 1 / 3}
    evicted = [(line.path, line.reason) for line in store.ledger() if line.action == "evicted"]
    assert evicted == [("0.keras", "number 3"), ("1.keras", "number 3")]


def test_a_file_of_the_same_name_is_replaced(tmp_path):
    store = CheckpointStore(tmp_path)
    commit(store, "best.keras", "old")
    commit(store, "best.keras", "new")
    (record,) = store.records()
    store.verify(record)
    assert contents(tmp_path) == {"best.keras": "new"}
    assert record.sequence == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.1, 1e-320, -0.0])
def test_every_float_survives_the_manifest(tmp_path, value):
    store = CheckpointStore(tmp_path)
    commit(store, "a", "x", loss=value)
    (record,) = store.records()
    assert math.copysign(1, record.metrics["loss"]) == math.copysign(1, value)
    assert record.metrics["loss"] == value or (
        math.isnan(value) and math.isnan(record.metrics["loss"])
    )
    json.loads((tmp_path / "checkpoints.json").read_text(), parse_constant=pytest.fail)


def test_foreign_files_are_never_touched(tmp_path):
    (tmp_path / "mine.keras").write_text("mine")
    store = CheckpointStore(tmp_path)
    for i in range(3):
        commit(store, f"{i}", "x", keep=1)
    assert contents(tmp_path) == {"mine.keras": "mine", "2": "x"}


def test_series_do_not_evict_each_other(tmp_path):
    store = CheckpointStore(tmp_path)
    commit(store, "a", "a", keep=1, series="one")
    commit(store, "b", "b", keep=1, series="two")
    assert [r.path for r in store.records("one")] == ["a"]
    assert [r.path for r in store.records("two")] == ["b"]


def test_a_file_removed_by_hand_is_said_and_forgotten(tmp_path):
    store = CheckpointStore(tmp_path)
    commit(store, "a", "a")
    commit(store, "b", "b")
    (tmp_path / "a").unlink()
    (fact,) = store.recover()
    assert "removed by someone else" in fact
    assert [r.path for r in store.records()] == ["b"]


def test_a_damaged_manifest_is_set_aside_and_the_files_stay(tmp_path):
    store = CheckpointStore(tmp_path)
    commit(store, "a", "a")
    path = tmp_path / "checkpoints.json"
    path.write_text(path.read_text().replace("0.5", "0.4"))
    with pytest.raises(ManifestError, match="checksum does not match"):
        store.records()
    (fact,) = store.recover()
    assert "damaged-0" in fact
    assert (tmp_path / "a").read_text() == "a"
    assert store.records() == ()


def test_a_manifest_of_a_newer_format_is_refused(tmp_path):
    store = CheckpointStore(tmp_path)
    commit(store, "a", "a")
    path = tmp_path / "checkpoints.json"
    path.write_text(path.read_text().replace('"version": 2', '"version": 3'))
    with pytest.raises(ManifestError, match="Install a newer keras-callbacks-plus"):
        store.recover()


@pytest.mark.parametrize("flip", range(5))
def test_verify_names_the_damaged_bytes(tmp_path, flip):
    store = CheckpointStore(tmp_path)
    commit(store, "a", "0123456789"[:5])
    data = bytearray((tmp_path / "a").read_bytes())
    data[flip] ^= 1
    (tmp_path / "a").write_bytes(bytes(data))
    with pytest.raises(CheckpointCorruptedError, match=r"a is damaged between bytes 0 and 5") as e:
        store.verify(store.records()[0])
    assert e.value.offset == 0


def test_short_writes_are_completed(tmp_path):
    store = CheckpointStore(tmp_path, filesystem=ShortWrites(LocalFileSystem()))
    commit(store, "a", "a long enough text")
    assert assert_consistent(tmp_path, {"a": "a long enough text"}) == {"a"}


def operations_of_one_commit(folder):
    prepare(folder)
    watched = FaultyFileSystem(LocalFileSystem())
    commit(CheckpointStore(folder, filesystem=watched), "2", "two")
    return watched.operations


def prepare(folder):
    store = CheckpointStore(folder)
    commit(store, "0", "zero")
    commit(store, "1", "one")


def number_of_operations(tmp_path_factory):
    return len(operations_of_one_commit(tmp_path_factory.mktemp("count")))


ERRORS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "EACCES": errno.EACCES, "EROFS": errno.EROFS}


@pytest.mark.parametrize("error", list(ERRORS))
def test_an_error_at_any_operation_leaves_every_older_file(tmp_path_factory, error):
    total = number_of_operations(tmp_path_factory)
    assert total > 10
    for at in range(total):
        folder = tmp_path_factory.mktemp(f"{error}{at}")
        prepare(folder)
        faulty = FaultyFileSystem(LocalFileSystem(), at=at, error=ERRORS[error])
        with pytest.raises(StorageError, match=r"Could not (create|write to)"):
            commit(CheckpointStore(folder, filesystem=faulty), "2", "two")
        names = assert_consistent(folder, {"1": "one"})
        assert names in ({"0", "1"}, {"1", "2"}, {"0", "1", "2"})
        assert not any(is_staging_name(n) for n in os.listdir(folder))
        commit(CheckpointStore(folder), "3", "three")  # and the next one works
        assert "3" in assert_consistent(folder, {"3": "three"})


STAGED = ".9.1-0.kcp-tmp"  # what a crash leaves
EVERY_CALL = (*FaultyFileSystem.CHANGING, *FaultyFileSystem.LOOKING)


def in_disorder(folder):
    """Two checkpoints, what a crash has left, and a manifest that is damaged."""
    prepare(folder)
    (folder / STAGED).write_text("half")
    data = bytearray((folder / "checkpoints.json").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "checkpoints.json").write_bytes(data)


@pytest.mark.parametrize("error", list(ERRORS))
@pytest.mark.parametrize(
    ("before", "action"),
    [
        (prepare, lambda store: commit(store, "2", "two")),
        (in_disorder, lambda store: commit(store, "2", "two")),
        (in_disorder, lambda store: store.recover("s")),
    ],
    ids=["commit", "commit in disorder", "recover"],
)
def test_an_error_at_any_call_costs_no_older_file(tmp_path_factory, error, before, action):
    folder = tmp_path_factory.mktemp("count")
    before(folder)
    counting = FaultyFileSystem(LocalFileSystem(), counted=EVERY_CALL)
    action(CheckpointStore(folder, filesystem=counting))
    said = 0
    for at in range(len(counting.operations)):
        folder = tmp_path_factory.mktemp(f"{error}{at}")
        before(folder)
        faulty = FaultyFileSystem(LocalFileSystem(), at=at, error=ERRORS[error], counted=EVERY_CALL)
        raised = True
        with contextlib.suppress(StorageError):
            action(CheckpointStore(folder, filesystem=faulty))
            raised = False
        said += raised
        assert contents(folder)["1"] == "one", counting.operations[at]
        commit(CheckpointStore(folder), "3", "three")  # and the next one works
        assert contents(folder)["3"] == "three"
        if before is prepare:
            assert_consistent(folder, {"3": "three"})
    assert said > len(counting.operations) / 2


def test_what_a_crash_of_somebody_else_has_left_stops_nobody(tmp_path):
    class NotOurs(LocalFileSystem):
        def is_locked(self, path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    assert is_staging_name(STAGED)
    (tmp_path / STAGED).write_text("half")
    commit(CheckpointStore(tmp_path, filesystem=NotOurs()), "1", "one")
    assert contents(tmp_path) == {"1": "one", STAGED: "half"}


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_at_any_operation_leaves_the_newest_whole(tmp_path_factory, when):
    total = number_of_operations(tmp_path_factory)
    for at in range(total):
        folder = tmp_path_factory.mktemp(f"{when}{at}")
        prepare(folder)
        faulty = FaultyFileSystem(LocalFileSystem(), at=at, kill=when)
        store = CheckpointStore(folder, filesystem=faulty)
        assert run_in_child(lambda store=store: commit(store, "2", "two")) == 9
        names = assert_consistent(folder, {"1": "one"})
        # killed between the new file's name and the eviction, both are there until the next commit
        assert names in ({"0", "1"}, {"1", "2"}, {"0", "1", "2"})
        assert not any(is_staging_name(n) for n in os.listdir(folder))
        commit(CheckpointStore(folder), "3", "three")
        assert assert_consistent(folder, {}) in ({"1", "3"}, {"2", "3"})


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_while_a_name_is_reused_leaves_the_old_or_the_new(tmp_path_factory, when):
    total = number_of_operations(tmp_path_factory)
    for at in range(total):
        folder = tmp_path_factory.mktemp(f"same{when}{at}")
        commit(CheckpointStore(folder), "best", "old")
        faulty = FaultyFileSystem(LocalFileSystem(), at=at, kill=when)
        store = CheckpointStore(folder, filesystem=faulty)
        run_in_child(lambda store=store: commit(store, "best", "new"))
        assert assert_consistent(folder, {}) == {"best"}
        assert contents(folder)["best"] in ("old", "new")


def test_two_processes_on_one_folder_lose_nothing(tmp_path):
    pids = []
    for child in range(2):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                for i in range(10):
                    commit(CheckpointStore(tmp_path), f"{child}-{i}", "x", keep=100)
                status = 0
            finally:
                os._exit(status)
        pids.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0]
    names = assert_consistent(tmp_path, {})
    assert names == {f"{c}-{i}" for c in range(2) for i in range(10)}
    assert sorted(r.sequence for r in CheckpointStore(tmp_path).records()) == list(range(20))


def test_remove_if_empty_leaves_foreign_files(tmp_path):
    folder = tmp_path / "a"
    store = CheckpointStore(folder)
    commit(store, "x", "x")
    store.remove_if_empty()
    assert folder.exists()
    with store.transaction() as transaction:
        transaction.decide(lambda records: {r.path: (False, "done") for r in records})
    (folder / "mine").write_text("mine")
    store.remove_if_empty()
    assert os.listdir(folder) == ["mine"]
    (folder / "mine").unlink()
    commit(store, "y", "y")
    with store.transaction() as transaction:
        transaction.decide(lambda records: {r.path: (False, "done") for r in records})
    store.remove_if_empty()
    assert not folder.exists()


def test_the_background_writer_runs_in_order_and_raises_on_the_next_call():
    writer, done = BackgroundWriter("things"), []
    for i in range(20):
        writer.submit(lambda i=i: done.append(i))
    writer.wait_until_finished()
    assert done == list(range(20))

    def fail():
        raise OSError(errno.ENOSPC, "full")

    writer.submit(fail)
    writer.drain()
    with pytest.raises(BackgroundWriteError, match="things in the background failed") as e:
        writer.submit(lambda: done.append("never"))
    assert isinstance(e.value.__cause__, OSError)
    writer.submit(lambda: done.append("again"))
    writer.wait_until_finished()
    assert done[-1] == "again"


def test_a_manifest_that_another_process_has_replaced_is_read_anew(tmp_path):
    store = CheckpointStore(tmp_path)
    commit(store, "a", "a")
    old = os.stat(tmp_path / "checkpoints.json").st_mtime_ns - 10**9
    os.utime(tmp_path / "checkpoints.json", ns=(old, old))  # long ago
    assert [r.path for r in store.records()] == ["a"]
    commit(CheckpointStore(tmp_path), "b", "b")
    assert [r.path for r in store.records()] == ["a", "b"]


def test_a_manifest_that_stays_is_read_once(tmp_path):
    class Counts(LocalFileSystem):
        reads = 0

        def read(self, path, size):
            Counts.reads += 1
            return super().read(path, size)

    commit(CheckpointStore(tmp_path), "a", "a")
    old = os.stat(tmp_path / "checkpoints.json").st_mtime_ns - 10**9
    os.utime(tmp_path / "checkpoints.json", ns=(old, old))
    store = CheckpointStore(tmp_path, filesystem=Counts())
    assert store.records() == store.records() != ()
    assert Counts.reads == 1


def settle_as(store, name, text, settle):
    with store.transaction() as transaction:
        transaction.commit(
            name, Text(text), series="s", kind="model", epoch=0, batch=None, step=1, metrics={}
        )
        transaction.settle(settle)


def test_what_a_file_is_called_is_settled_when_all_others_are_known(tmp_path):
    store = CheckpointStore(tmp_path)
    commit(store, "a", "first")
    seen = []

    def another_name(records, names, new):
        seen.append(([r.path for r in records], new.path, new.size, new.sequence, "a" in names))
        return "a-v1", ""

    settle_as(store, "a", "second", another_name)
    assert seen == [(["a"], "a", 6, 1, True)]
    assert_consistent(tmp_path, {"a": "first", "a-v1": "second"})


def test_a_file_that_is_not_wanted_any_more_leaves_a_line_and_nothing_else(tmp_path):
    store = CheckpointStore(tmp_path)
    commit(store, "a", "first")
    settle_as(store, "a", "second", lambda records, names, new: (None, "not the best"))
    assert assert_consistent(tmp_path, {"a": "first"}) == {"a"}
    assert not any(is_staging_name(n) for n in os.listdir(tmp_path))
    line = store.ledger()[-1]
    assert (line.path, line.action, line.reason) == ("a", "refused", "not the best")


def test_a_file_of_another_size_is_not_listed_any_more_and_stays(tmp_path):
    store = CheckpointStore(tmp_path)
    commit(store, "a", "first")
    commit(store, "b", "second", series="t")
    (tmp_path / "a").write_text("fir")
    (tmp_path / "b").write_text("sec")
    assert store.recover() == []  # whoever reads a damaged file says so
    (fact,) = store.recover("s")
    assert "a has 3 bytes, and 5 were committed" in fact
    assert [r.path for r in store.records()] == ["b"]
    assert contents(tmp_path) == {"a": "fir", "b": "sec"}
    with store.transaction("t") as transaction:
        pass
    (fact,) = transaction.facts
    assert "b has 3 bytes, and 6 were committed" in fact
    lost = [line.path for line in store.ledger() if line.action == "lost"]
    assert lost == ["a", "b"]


def test_what_is_disowned_is_not_listed_any_more_and_stays(tmp_path):
    store = CheckpointStore(tmp_path)
    commit(store, "a", "first")
    store.disown(store.records()[0], "damaged")
    assert store.records() == ()
    assert contents(tmp_path) == {"a": "first"}
    assert store.ledger()[-1].reason == "damaged"


@pytest.mark.parametrize("look", [CheckpointStore.records, lambda store: store.has_file("a")])
def test_an_error_on_looking_says_what_to_do(tmp_path, look):
    class Stale(LocalFileSystem):
        def version(self, path):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), path)

        exists = version

    with pytest.raises(StorageError, match="Could not (read|look into) .* mounted again"):
        look(CheckpointStore(tmp_path, filesystem=Stale()))
