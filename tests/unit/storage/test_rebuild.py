"""A lost manifest is made again from what the files say of themselves."""

from __future__ import annotations

import math

import pytest

from keras_callbacks_plus.errors import CheckpointCorruptedError
from keras_callbacks_plus.storage import CheckpointStore
from keras_callbacks_plus.storage.file_record import encode_record
from tests.helpers.checkpoint_folder import archive_carrying, carrying, commit

FACTS = {"series": "{epoch}.keras", "kind": "model", "epoch": 3, "batch": None, "step": 40}


def record(time, **metrics):
    return {**FACTS, "time": time, "metrics": metrics}


def test_the_files_are_listed_in_the_order_of_their_time(tmp_path):
    (tmp_path / "a.keras").write_bytes(archive_carrying(record(20.0, loss=math.nan)))
    (tmp_path / "b.keras").write_bytes(archive_carrying(record(10.0, loss=0.5)))
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "c.keras").mkdir()
    store = CheckpointStore(tmp_path)
    (fact,) = store.recover()
    assert "2 checkpoints" in fact
    assert "b.keras, a.keras" in fact
    first, second = store.records("{epoch}.keras")
    assert (first.path, first.epoch, first.step, first.metrics) == ("b.keras", 3, 40, {"loss": 0.5})
    assert second.sequence == 1
    assert math.isnan(second.metrics["loss"])
    for found in (first, second):
        store.verify(found)
    assert store.recover() == []  # it is written down now


def test_copies_that_somebody_made_are_left_alone(tmp_path):
    said = {"05-0.25.keras": "05-0.25.keras", "05-0.25-v2.keras": "05-0.25.keras"}
    said |= {"favourite.keras": "05-0.25.keras", "05-0.25 (copy).keras": "05-0.25.keras"}
    said |= {"105-0.25.keras": "05-0.25.keras", "05-0x25.keras": "05-0.25.keras"}
    for time, (name, wished) in enumerate(said.items()):
        (tmp_path / name).write_bytes(archive_carrying({**record(float(time)), "name": wished}))
    store = CheckpointStore(tmp_path)
    facts = store.recover()
    assert [r.path for r in store.records()] == ["05-0.25.keras", "05-0.25-v2.keras"]
    for name in list(said)[2:]:
        assert any(f"{name} is a copy: it was saved as 05-0.25.keras" in fact for fact in facts)


def test_the_order_of_commits_is_not_begun_anew(tmp_path):
    for name, time, number in [("a", 1.0, 7), ("b", 2.0, 7), ("c", 3.0, 12), ("d", 4.0, 9)]:
        (tmp_path / f"{name}.keras").write_bytes(
            archive_carrying({**record(time), "sequence": number})
        )
    store = CheckpointStore(tmp_path)
    store.recover()
    assert [(r.path[0], r.sequence) for r in store.records()] == [
        *[("a", 7), ("b", 8)],
        *[("c", 12), ("d", 13)],
    ]
    commit(tmp_path, "e.keras")
    assert CheckpointStore(tmp_path).records()[-1].sequence == 14


@pytest.mark.parametrize("place", [0, 40, -1])
@pytest.mark.parametrize("name", ["a.keras", "a.weights.h5"])
def test_a_damaged_file_is_said_and_left_alone(tmp_path, name, place):
    whole = (archive_carrying if name.endswith(".keras") else carrying)(record(1.0))
    data = bytearray(whole)
    data[(whole.index(b'{"series"') if place < 0 else 0) + place] ^= 1  # before the record
    (tmp_path / name).write_bytes(data)
    store = CheckpointStore(tmp_path)
    (fact,) = store.recover()
    assert f"{name} is damaged, and is not listed" in fact
    assert store.records() == ()
    assert (tmp_path / name).read_bytes() == data
    (tmp_path / name).write_bytes(whole)
    (tmp_path / "checkpoints.json").unlink(missing_ok=True)
    store.recover()
    store.verify(store.records()[0])


@pytest.mark.parametrize("size", [0, 1, 65_000, 1 << 16, 9 << 20])
def test_a_file_of_any_size_is_compared(tmp_path, size):
    """It is read in pieces, and the record may lie across two of them."""
    data = bytearray(carrying(record(1.0), bytes(size)))
    (tmp_path / "a.weights.h5").write_bytes(data)
    CheckpointStore(tmp_path).recover()
    assert [r.size for r in CheckpointStore(tmp_path).records()] == [len(data)]


@pytest.mark.parametrize("missing", ["series", "metrics", "time"])
def test_a_record_that_makes_no_sense_is_said(tmp_path, missing):
    content = record(1.0)
    del content[missing]
    (tmp_path / "a.weights.h5").write_bytes(b"weights" + encode_record(content))
    (fact,) = CheckpointStore(tmp_path).recover()
    assert "makes no sense" in fact
    assert missing in fact


def test_what_a_later_version_adds_is_passed_over(tmp_path):
    content = {**record(1.0), "colour": "blue"}
    (tmp_path / "a.weights.h5").write_bytes(b"weights" + encode_record(content))
    CheckpointStore(tmp_path).recover()
    assert [r.path for r in CheckpointStore(tmp_path).records()] == ["a.weights.h5"]


def test_a_damaged_manifest_is_set_aside_and_made_again(tmp_path):
    (tmp_path / "a.keras").write_bytes(archive_carrying(record(1.0)))
    (tmp_path / "checkpoints.json").write_text("{")
    facts = CheckpointStore(tmp_path).recover()
    assert "checkpoints.json.damaged-0" in facts[0]
    assert [r.path for r in CheckpointStore(tmp_path).records()] == ["a.keras"]
    assert (tmp_path / "checkpoints.json.damaged-0").read_text() == "{"


def test_a_folder_in_the_place_of_a_file_is_damage(tmp_path):
    (tmp_path / "a.keras").write_bytes(archive_carrying(record(1.0)))
    store = CheckpointStore(tmp_path)
    store.recover()
    (tmp_path / "a.keras").unlink()
    (tmp_path / "a.keras").mkdir()
    with pytest.raises(CheckpointCorruptedError, match="is a folder"):
        store.verify(store.records()[0])
