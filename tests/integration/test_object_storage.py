"""Checkpoints on a real S3 server (moto, on loopback), with errors of the server and of the way."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_callbacks_plus as kcp
from keras_callbacks_plus.errors import (
    CheckpointCorruptedError,
    InvalidArgumentError,
    StorageError,
)
from keras_callbacks_plus.storage import CheckpointStore, RemoteFileSystem
from keras_callbacks_plus.storage.remote import Session
from tests.helpers.faulty_http import FaultyProxy
from tests.helpers.trainings import forget_what_was_trained

pytestmark = pytest.mark.backend

WHY = "the S3 server of the tests is not installed: extra `test-remote`"
pytest.importorskip("s3fs", reason=WHY)
moto_server = pytest.importorskip("moto.server", reason=WHY)
fsspec = pytest.importorskip("fsspec", reason=WHY)

ROOT = Path(kcp.__file__).parents[1]
PART = 5 << 20  # the smallest that S3 allows
LARGE = 12 << 20  # more than goes in one request


@pytest.fixture(scope="module")
def proxy():
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    proxy = FaultyProxy(*server.get_host_and_port())
    yield proxy
    proxy.stop()
    server.stop()


@pytest.fixture
def s3(proxy, monkeypatch, request):
    """The driver, and an empty bucket; `s3.url` is a folder in it."""
    settings = {
        "key": "test",
        "secret": "test",
        "endpoint_url": proxy.url,
        "default_block_size": PART,
        "config_kwargs": {"retries": {"max_attempts": 0}},
    }
    monkeypatch.setitem(fsspec.config.conf, "s3", settings)
    driver = fsspec.filesystem("s3")
    driver.retries = 1  # or a cut connection is tried five times, with pauses
    proxy.fault = lambda method, path, body: None
    bucket = f"bucket-{abs(hash(request.node.name)):x}"
    driver.mkdir(bucket)
    driver.url = f"s3://{bucket}/run"
    driver.settings = settings
    driver.proxy = proxy
    yield driver
    proxy.fault = lambda method, path, body: None


def contents(s3):
    """Size of each object that is not the store's own."""
    s3.invalidate_cache()
    found = s3.find(s3.url, detail=True).values()
    sizes = {f["name"].rpartition("/")[2]: f["size"] for f in found}
    return {name: size for name, size in sorted(sizes.items()) if name != "checkpoints.json"}


class Bytes:
    def __init__(self, size):
        self.data = np.random.default_rng(size).bytes(size)

    def write_to(self, sink):
        sink.write(self.data)


def commit(store, name, size, *, keep=2):
    def judge(records):
        latest = sorted(records, key=lambda r: -r.sequence)
        return {r.path: (i < keep, f"number {i + 1}") for i, r in enumerate(latest)}

    with store.transaction() as transaction:
        transaction.commit(
            name,
            Bytes(size),
            series="s",
            kind="model",
            epoch=0,
            batch=None,
            step=1,
            metrics={"loss": 0.5},
        )
        transaction.decide(judge)


def new_process(s3):
    return CheckpointStore(s3.url, filesystem=RemoteFileSystem(s3.url, session=Session()))


def assert_consistent(s3):
    """What must hold after any error: every record is whole, and every object has a record."""
    store = new_process(s3)
    store.recover()
    for record in store.records():
        store.verify(record)
    assert {r.path for r in store.records()} == set(contents(s3))
    return set(contents(s3))


def changes(requests):
    """Those requests that change something, as verb and name."""
    verbs = {"PUT": "put", "DELETE": "delete"}
    told = []
    for method, path in requests:
        key, _, query = path.partition("?")
        name = key.rpartition("/")[2]
        if method in verbs:
            told.append(f"{verbs[method]} {'part of ' if 'partNumber' in query else ''}{name}")
        elif method == "POST":
            told.append(f"{'begin' if query == 'uploads' else 'complete'} {name}")
    return told


def test_what_is_asked_of_the_store_and_in_which_order(s3):
    store = new_process(s3)
    commit(store, "small", 1000, keep=1)
    s3.proxy.requests.clear()
    commit(store, "large", LARGE, keep=1)
    assert changes(s3.proxy.requests) == [
        "begin large",
        "put part of large",  # sent while the payload is still being written
        "put checkpoints.json",  # what is about to appear
        "put part of large",
        "complete large",
        "put checkpoints.json",
        "delete small",
    ]
    assert contents(s3) == {"large": LARGE}
    assert assert_consistent(s3) == {"large"}


@pytest.mark.parametrize(
    ("fault", "size"),
    [
        (500, LARGE),
        ("lose the answer", 1000),
        pytest.param(500, 1000, marks=pytest.mark.slow),
        pytest.param(403, 1000, marks=pytest.mark.slow),
        pytest.param(403, LARGE, marks=pytest.mark.slow),
        pytest.param("cut", 1000, marks=pytest.mark.slow),
        pytest.param("cut", LARGE, marks=pytest.mark.slow),
        pytest.param("lose the answer", LARGE, marks=pytest.mark.slow),
    ],
)
def test_a_store_that_is_gone_from_any_request_on_leaves_the_newest_whole(s3, fault, size):
    def changing(method, path):
        return method in ("PUT", "POST", "DELETE")

    before = new_process(s3)
    commit(before, "0", 2000)
    commit(before, "1", 3000)
    names = {"0", "1"}
    failures, at = 0, 0
    while True:
        count = 0

        def gone(method, path, body, at=at):
            nonlocal count
            count += changing(method, path)
            if count <= at:
                return None
            return fault if changing(method, path) or fault != "lose the answer" else "cut"

        s3.proxy.fault = gone
        newest, name = max(names, key=int), str(10 + at)
        store = CheckpointStore(
            s3.url, filesystem=RemoteFileSystem(s3.url, session=before._folder.files._session)
        )
        try:
            commit(store, name, size)
        except StorageError as error:
            failures += s3.url in str(error)
        s3.proxy.fault = lambda method, path, body: None
        if count <= at:
            break  # every request was answered
        names = assert_consistent(s3)
        assert newest in names
        before.recover()
        at += 1
    assert failures == at >= 4  # manifest, object, manifest, removal
    assert name in assert_consistent(s3)


def unfinished(s3):
    return s3.list_multipart_uploads(s3.url.split("/")[2])


def test_one_error_in_an_upload_aborts_it_and_the_next_save_works(s3):
    store = new_process(s3)
    commit(store, "0", 1000)

    def second_part_fails(method, path, body):
        return 500 if "partNumber=2" in path else None

    s3.proxy.fault = second_part_fails
    with pytest.raises(StorageError, match=f"Could not write {s3.url}/1: .*Objects written before"):
        commit(store, "1", LARGE)
    assert contents(s3) == {"0": 1000}
    assert unfinished(s3) == []
    s3.proxy.fault = lambda method, path, body: None
    commit(store, "1", LARGE)
    assert assert_consistent(s3) == {"0", "1"}


def test_an_answer_that_was_lost_does_not_make_us_our_own_second_writer(s3):
    store = new_process(s3)
    commit(store, "0", 1000)

    def lose(method, path, body):
        return "lose the answer" if method == "PUT" and path.endswith(".json") else None

    s3.proxy.fault = lose
    with pytest.raises(StorageError, match="checkpoints.json"):
        commit(store, "1", 1000)
    s3.proxy.fault = lambda method, path, body: None
    commit(store, "2", 1000)
    assert assert_consistent(s3) == {"0", "2"}


def test_a_bucket_that_does_not_exist_is_said_before_the_first_epoch(s3):
    checkpoint = kcp.ModelCheckpoint("s3://no-such-bucket/run/{epoch}.keras")
    with pytest.raises(StorageError, match="no-such-bucket/run: .*Create the bucket first"):
        train([0.5], checkpoint)


CHILD = """
import json, sys
import fsspec
from keras_callbacks_plus.storage import CheckpointStore

class Bytes:
    def write_to(self, sink):
        sink.write(b"from another process")

fsspec.config.conf["s3"] = json.loads(sys.argv[2])
store = CheckpointStore(sys.argv[1])
store.recover()
with store.transaction() as transaction:
    transaction.commit(sys.argv[3], Bytes(), series="s", kind="model", epoch=0, batch=None, step=1,
                       metrics={})
"""


def test_a_second_process_is_noticed(s3):
    def child(name):
        subprocess.run(
            [sys.executable, "-c", CHILD, s3.url, json.dumps(s3.settings), name],
            check=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    store = CheckpointStore(s3.url)
    store.recover()
    commit(store, "0", 1000)
    child("1")
    s3.proxy.requests.clear()
    with pytest.raises(StorageError, match="checkpoints.json was changed by another process"):
        commit(store, "2", 1000)
    assert changes(s3.proxy.requests) == []
    store.recover()
    commit(store, "3", 1000)
    assert [(r.path, r.sequence) for r in store.records()] == [("1", 1), ("3", 2)]
    assert assert_consistent(s3) == {"1", "3"}


# -------------------------------------------------------------------- in `fit`


class Script(keras.callbacks.Callback):
    """Writes prescribed values into the logs."""

    def __init__(self, values):
        super().__init__()
        self.values = values

    def on_epoch_end(self, epoch, logs=None):
        logs["val_loss"] = self.values[epoch]


def train(values, checkpoint):
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    x = np.random.default_rng(0).random((24, 4)).astype("float32")
    y = x.sum(1, keepdims=True)
    model.fit(
        x, y, batch_size=8, epochs=len(values), verbose=0, callbacks=[Script(values), checkpoint]
    )
    return model, x


def fresh(s3, **arguments):
    return kcp.ModelCheckpoint(
        s3.url + "/{epoch:02d}-{val_loss:.1f}.keras",
        save_best_only=True,
        max_to_keep=2,
        **arguments,
    )


@pytest.mark.parametrize("background", [True, False])
def test_fit_keeps_the_best_and_the_next_instance_goes_on(s3, background, tmp_path):
    model, x = train([0.5, 0.3], fresh(s3, save_on_background=background))
    assert sorted(contents(s3)) == ["01-0.5.keras", "02-0.3.keras"]
    s3.get_file(f"{s3.url}/02-0.3.keras", str(tmp_path / "best.keras"))
    loaded = keras.models.load_model(tmp_path / "best.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    forget_what_was_trained()
    second = fresh(s3, save_on_background=background)
    train([0.9, 0.4, 0.6], second)
    assert assert_consistent(s3) == {"02-0.3.keras", "02-0.4.keras"}
    assert second.best == 0.3
    assert unfinished(s3) == []


def test_weights_in_the_root_of_a_bucket(s3):
    bucket = s3.url.rpartition("/")[0]
    train([0.5], kcp.ModelCheckpoint(f"{bucket}/a.weights.h5", save_weights_only=True))
    assert io.BytesIO(s3.cat_file(f"{bucket}/a.weights.h5")).read(4) == b"\x89HDF"


@pytest.mark.parametrize(("fault", "background"), [(500, True), ("cut", False)])
def test_an_error_of_the_store_ends_fit_with_the_key_and_older_objects_stay(s3, fault, background):
    train([0.5, 0.3], fresh(s3))
    forget_what_was_trained()

    def refuse(method, path, body):
        return fault if method == "PUT" and path.endswith(".keras") else None

    s3.proxy.fault = refuse
    with pytest.raises(StorageError, match=r"Could not write s3://.*/run/01-0\.1\.keras"):
        train([0.1, 0.2], fresh(s3, save_on_background=background))
    s3.proxy.fault = lambda method, path, body: None
    assert assert_consistent(s3) == {"01-0.5.keras", "02-0.3.keras"}
    forget_what_was_trained()
    train([0.1], fresh(s3))
    assert assert_consistent(s3) == {"02-0.3.keras", "01-0.1.keras"}


def test_backup_and_restore_refuses_a_url(s3):
    with pytest.raises(InvalidArgumentError, match="`backup_dir` must be a folder that this mach"):
        kcp.BackupAndRestore(f"{s3.url}/backup")
    with pytest.raises(InvalidArgumentError, match='Write "s3://bucket/backup"'):
        kcp.BackupAndRestore(Path("s3://bucket/backup"))


def test_checkpoints_are_read_back_verified_and_loaded(s3):
    """Larger than one request, so that it comes in parts."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.ones((8, 4), "float32")
    checkpoint = kcp.ModelCheckpoint(f"{s3.url}/{{epoch}}.keras", monitor="loss")
    model.fit(x, x[:, :1], epochs=2, verbose=0, callbacks=[checkpoint])
    commit(CheckpointStore(s3.url), "large", LARGE, keep=9)
    saved = kcp.checkpoints(s3.url)
    assert [c.name for c in saved] == ["1.keras", "2.keras", "large"]
    saved.verify()
    loaded = saved.best("loss", series="{epoch}.keras").load_model()
    np.testing.assert_array_equal(loaded.get_weights()[0], model.get_weights()[0])
    damaged = bytearray(s3.cat_file(f"{s3.url}/large"))
    damaged[LARGE - 5] ^= 1
    s3.pipe_file(f"{s3.url}/large", bytes(damaged))
    with pytest.raises(CheckpointCorruptedError, match=f"it is byte {LARGE - 5}"):
        saved[2].verify()
    saved.prune(kcp.policies.LatestN(1))
    assert set(contents(s3)) == {"2.keras", "large"}
