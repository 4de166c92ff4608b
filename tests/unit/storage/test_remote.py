"""The store on an object store (fsspec's `memory://`): the same promises, without a rename."""

from __future__ import annotations

import pathlib
import sys
import threading

import pytest

from keras_callbacks_plus.errors import (
    CheckpointCorruptedError,
    InvalidArgumentError,
    ManifestError,
    MissingExtraError,
    StorageError,
)
from keras_callbacks_plus.storage import (
    CheckpointStore,
    LocalFileSystem,
    RemoteFileSystem,
    filesystem_for,
    remote,
    split_path,
)
from keras_callbacks_plus.storage.remote import Session
from tests.helpers.faults import CutOff

fsspec = pytest.importorskip("fsspec", reason="the extra `remote` is not installed")

URL = "memory://bucket/run"


@pytest.fixture
def memory():
    driver = fsspec.filesystem("memory")
    driver.store.clear()
    remote._THIS_PROCESS.seen.clear()  # it is right to notice that the objects are gone
    yield driver
    driver.store.clear()


class Text:
    def __init__(self, text):
        self.text = text

    def write_to(self, sink):
        for letter in self.text:
            sink.write(letter.encode())


def new_process(**faults):
    """A store as another process would see it, perhaps one that is cut off."""
    files = RemoteFileSystem(URL, session=Session())
    return CheckpointStore(URL, filesystem=CutOff(files, **faults))


def commit(store, name, text, *, keep=2):
    def judge(records):
        latest = sorted(records, key=lambda r: -r.sequence)
        return {r.path: (i < keep, f"number {i + 1}") for i, r in enumerate(latest)}

    with store.transaction() as transaction:
        transaction.commit(
            name,
            Text(text),
            series="s",
            kind="model",
            epoch=0,
            batch=None,
            step=1,
            metrics={"loss": 0.5},
        )
        transaction.decide(judge)


def contents(memory):
    """Every object that is not the manifest, with its text."""
    objects = {n.removeprefix("/bucket/run/"): memory.cat_file(n).decode() for n in memory.store}
    return {n: text for n, text in sorted(objects.items()) if not n.startswith("checkpoints.json")}


def test_commit_list_evict_and_go_on_in_a_new_process(memory):
    store = CheckpointStore(URL, clock=lambda: 12.5)
    for i in range(4):
        commit(store, f"{i}.keras", f"text {i}")
    assert contents(memory) == {"2.keras": "text 2", "3.keras": "text 3"}
    assert store.path_of(store.records()[0]) == "memory://bucket/run/2.keras"
    again = new_process()
    assert again.recover() == []
    commit(again, "4.keras", "text 4")
    assert [(r.path, r.sequence) for r in again.records("s")] == [("3.keras", 3), ("4.keras", 4)]
    for record in again.records():
        again.verify(record)
    assert sorted(contents(memory)) == ["3.keras", "4.keras"]


def test_the_object_is_there_before_the_manifest_says_so_and_old_ones_go_last(memory):
    for name in ("0", "1"):
        commit(CheckpointStore(URL), name, "text")
    store = new_process()
    commit(store, "2", "text")
    assert [
        (name, key.rpartition("/")[2])
        for name, key in store._folder.files.operations
        if name in ("rename", "remove")
    ] == [
        ("rename", "checkpoints.json"),  # what is about to appear
        ("rename", "2"),
        ("rename", "checkpoints.json"),
        ("remove", "0"),
    ]


def test_nothing_is_seen_of_an_upload_before_it_is_complete(memory):
    files = RemoteFileSystem(URL, session=Session())
    descriptor = files.create(f"{URL}/.a.tmp", f"{URL}/a")
    files.write(descriptor, memoryview(b"text"))
    files.sync(descriptor)
    assert files.names(URL) == []
    files.rename(f"{URL}/.a.tmp", f"{URL}/a")
    assert files.names(URL) == ["a"]
    descriptor = files.create(f"{URL}/.b.tmp", f"{URL}/a")
    files.write(descriptor, memoryview(b"other"))
    files.close(descriptor)
    files.remove(f"{URL}/.b.tmp")
    assert contents(memory) == {"a": "text"}


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("name", ["2", "1"])
def test_a_cut_between_any_two_operations_leaves_the_newest_whole(memory, name, done):
    def prepare():
        memory.store.clear()
        store = new_process()
        commit(store, "0", "zero")
        commit(store, "1", "one")

    prepare()
    watched = new_process()
    commit(watched, name, "two")
    operations = watched._folder.files.operations
    assert len(operations) >= 9
    for at in range(len(operations)):
        prepare()
        with pytest.raises(StorageError, match="cut off"):
            commit(new_process(at=at, done=done), name, "two")
        store = new_process()
        store.recover()
        records = store.records()
        for record in records:
            store.verify(record)
        assert {r.path for r in records} == set(contents(memory)), operations[at]
        if name == "2":
            assert contents(memory)["1"] == "one"
        else:
            assert contents(memory)["1"] in ("one", "two")
        commit(store, "3", "three")
        assert contents(memory)["3"] == "three"
        assert {r.path for r in store.records()} == set(contents(memory))


def test_foreign_objects_are_never_touched(memory):
    memory.pipe_file(f"{URL}/mine.keras", b"mine")
    memory.pipe_file(f"{URL}/below/mine.keras", b"mine")
    for i in range(3):
        commit(CheckpointStore(URL), f"{i}", "x", keep=1)
    assert contents(memory) == {"mine.keras": "mine", "below/mine.keras": "mine", "2": "x"}


def test_an_object_removed_by_hand_is_said_and_forgotten(memory):
    store = CheckpointStore(URL)
    commit(store, "a", "a")
    commit(store, "b", "b")
    memory.rm_file(f"{URL}/a")
    (fact,) = store.recover()
    assert "memory://bucket/run/a was removed by someone else" in fact
    assert [r.path for r in store.records()] == ["b"]


def test_a_damaged_manifest_is_set_aside_and_the_objects_stay(memory):
    store = CheckpointStore(URL)
    commit(store, "a", "a")
    path = f"{URL}/checkpoints.json"
    memory.pipe_file(path, memory.cat_file(path).replace(b"0.5", b"0.4"))
    with pytest.raises(ManifestError, match="checksum does not match"):
        store.records()
    store = new_process()
    (fact,) = store.recover()
    assert "checkpoints.json.damaged-0" in fact
    assert memory.exists(f"{path}.damaged-0")
    assert contents(memory) == {"a": "a"}
    assert store.records() == ()
    commit(store, "b", "b")
    assert [r.path for r in new_process().records()] == ["b"]


def test_verify_finds_a_changed_object(memory):
    store = CheckpointStore(URL)
    commit(store, "a", "text")
    memory.pipe_file(f"{URL}/a", b"tExt")
    with pytest.raises(CheckpointCorruptedError, match="run/a is damaged between bytes 0 and 4"):
        store.verify(store.records()[0])
    memory.rm_file(f"{URL}/a")
    with pytest.raises(CheckpointCorruptedError, match="run/a is gone"):
        store.verify(store.records()[0])


def test_a_second_writer_is_refused_and_nothing_is_overwritten(memory):
    first, second = new_process(), new_process()
    for store in (first, second):
        store.recover()
    commit(first, "a", "a")
    before = dict(contents(memory))
    with pytest.raises(StorageError, match="changed by another process.*folder of its own"):
        commit(second, "b", "b")
    assert contents(memory) == before
    commit(first, "c", "c")  # the one that was there first goes on
    second.recover()  # a new `fit` takes over, and then the other one is refused
    commit(second, "d", "d")
    with pytest.raises(StorageError, match="changed by another process"):
        commit(first, "e", "e")
    assert {r.path for r in new_process().records()} == set(contents(memory)) == {"c", "d"}


@pytest.mark.parametrize("done", [True, False])
def test_a_write_that_failed_is_not_taken_for_another_writer(memory, done):
    store = new_process()
    commit(store, "a", "a")
    files = store._folder.files.inner
    driver, calls = files._driver, []

    class AnswerLost:
        def __getattr__(self, name):
            return getattr(driver, name)

        def pipe_file(self, key, data):
            calls.append(key)
            if done or len(calls) > 1:
                driver.pipe_file(key, data)
            if len(calls) == 1:
                raise RuntimeError("the connection was cut")

    files.__dict__["_driver"] = AnswerLost()
    with pytest.raises(StorageError, match="RuntimeError: the connection was cut"):
        commit(store, "b", "b")
    assert calls == [f"{URL}/checkpoints.json"]
    commit(store, "c", "c")
    assert [r.path for r in store.records()] == ["a", "c"]


def test_the_writers_of_one_process_take_turns(memory):
    def work(number):
        store = CheckpointStore(URL)
        for i in range(5):
            commit(store, f"{number}-{i}", "x", keep=100)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(CheckpointStore(URL).records()) == 15
    assert len(contents(memory)) == 15


def test_remove_if_empty(memory):
    store = CheckpointStore(URL)
    store.remove_if_empty()
    commit(store, "x", "x")
    store.remove_if_empty()
    assert contents(memory) == {"x": "x"}
    with store.transaction() as transaction:
        transaction.decide(lambda records: {r.path: (False, "done") for r in records})
    store.remove_if_empty()
    assert not memory.store
    commit(store, "y", "y")
    assert contents(memory) == {"y": "y"}


class Refusing:
    """A driver that answers everything with one error."""

    def __init__(self, error):
        self.error = error

    def invalidate_cache(self, path=None):
        pass

    def __getattr__(self, name):
        def refuse(*args, **kwargs):
            raise self.error

        return refuse


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (PermissionError("Forbidden"), "PermissionError: Forbidden. These credentials may not"),
        (RuntimeError("no connection"), "RuntimeError: no connection. Objects written before are"),
    ],
)
def test_an_error_of_a_driver_names_the_key_and_what_to_do(error, hint):
    store = CheckpointStore(URL)
    store._folder.files.__dict__["_driver"] = Refusing(error)
    with pytest.raises(StorageError, match=f"{URL}/checkpoints.json: {hint}") as e:
        store.recover()
    assert e.value.__cause__ is error
    assert e.value.path == f"{URL}/checkpoints.json"


@pytest.mark.parametrize("path", ["run", "/run/a", "C:\\runs\\a", "C://runs/a", "a:b/c"])
def test_paths_of_this_machine(path):
    assert isinstance(filesystem_for(path), LocalFileSystem)


@pytest.mark.parametrize("url", ["ftp://host/a", "file:///a", "simplecache::s3://b/a", "nope://a"])
def test_places_where_a_file_may_appear_in_parts_are_refused(url):
    with pytest.raises(InvalidArgumentError, match=r"s3://, .*Write to a folder of this machine"):
        filesystem_for(url)


def test_a_url_is_split_at_its_last_slash():
    assert split_path("filepath", "s3://bucket/run/{epoch}.keras") == (
        "s3://bucket/run",
        "{epoch}.keras",
    )
    assert split_path("filepath", "s3://bucket/a.keras") == ("s3://bucket", "a.keras")
    with pytest.raises(InvalidArgumentError, match='Write "s3://bucket/a.keras"'):
        split_path("filepath", "s3://a.keras")
    with pytest.raises(InvalidArgumentError, match='Write "s3://bucket/a.keras"'):
        split_path("filepath", pathlib.PurePosixPath("s3://bucket/a.keras"))


def test_without_fsspec_the_error_has_the_line_to_type(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingExtraError, match=r'pip install "keras-callbacks-plus\[remote\]"$'):
        filesystem_for("memory://bucket/run")
    wanted = r'needs fsspec and gcsfs.*pip install "keras-callbacks-plus\[remote\]" gcsfs$'
    with pytest.raises(MissingExtraError, match=wanted) as e:
        filesystem_for("gs://bucket/run")
    assert e.value.extra == "remote"


def test_without_the_driver_the_error_names_it(monkeypatch):
    def missing(scheme):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    with pytest.raises(MissingExtraError, match=r"needs fsspec and s3fs.*\[remote\]\" s3fs$"):
        filesystem_for("s3://bucket/run")


class RemembersFolders(fsspec.get_filesystem_class("memory")):
    """Answers from the listing of the folder until all is forgotten, as that of Azure does."""

    cachable = False

    def __init__(self):
        super().__init__()
        self.listings = {}

    def info(self, path, **more):
        folder = self._strip_protocol(path).rpartition("/")[0]
        listing = self.listings.setdefault(folder, self.ls(folder, detail=True))
        found = next((f for f in listing if f["name"] == self._strip_protocol(path)), None)
        if found is None:
            raise FileNotFoundError(path)
        return found

    def invalidate_cache(self, path=None):
        if path is None:
            self.listings.clear()
        self.listings.pop(path, None)


def test_what_has_just_been_written_is_seen_though_the_driver_remembers_listings(memory):
    files = RemoteFileSystem(URL, session=Session())
    files.__dict__["_driver"] = RemembersFolders()
    store = CheckpointStore(URL, filesystem=files)
    for name in ("a", "b"):
        commit(store, name, name)
        for record in store.records():
            store.verify(record)
    assert [r.path for r in store.records()] == ["a", "b"]
