"""The bytes of a record, against `tensorboard`'s own protos and its own reader and writer."""

import importlib
import io
import math
import os
import random
import struct

import pytest
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import PyRecordReader_New
from tensorboard.summary.writer.record_writer import RecordWriter

from keras_callbacks_plus.events import _crc32c, _record

TIME = 1_700_000_000.25


def payload(record):
    return record[12:-4]


# From RFC 3720, appendix B.4, and the check value of the Rocksoft model.
@pytest.mark.parametrize(
    ("data", "crc"),
    [
        (b"", 0x00000000),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(reversed(range(32))), 0x113FDB5C),
    ],
)
def test_crc32c_of_the_published_vectors(data, crc):
    assert _crc32c.crc32c_by_tables(data) == crc


def test_crc32c_is_tensorboards_for_any_length():
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import crc32c

    random_bytes = random.Random(0).randbytes(80)
    for length in range(80):
        assert _crc32c.crc32c_by_tables(random_bytes[:length]) == crc32c(random_bytes[:length])


@pytest.mark.parametrize("module", ["google_crc32c", "crc32c"])
def test_an_extension_module_is_used_where_installed(module, monkeypatch):
    class Module:
        value = crc32c = staticmethod(lambda data: 7)

    def import_module(name):
        if name == module:
            return Module
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", import_module)
    assert _crc32c.find_crc32c()(b"x") == 7


@pytest.mark.parametrize("step", [0, 1, 127, 128, 300, 2**31, 2**63 - 1, -5])
def test_scalars_are_the_bytes_of_the_proto(step):
    values = {
        "epoch_loss": 0.1,
        "épo/ch": -2.5,
        "t" * 200: 1e-30,
        "nan": math.nan,
        "inf": -math.inf,
    }
    proto = event_pb2.Event(
        wall_time=TIME,
        step=step,
        summary=summary_pb2.Summary(
            value=[summary_pb2.Summary.Value(tag=k, simple_value=v) for k, v in values.items()]
        ),
    )
    packer = _record.EventPacker()
    for _ in range(2):  # the second time from what the first has kept
        assert payload(packer.scalars(TIME, step, values)) == proto.SerializeToString()


def test_head_is_the_bytes_of_the_proto():
    packer = _record.EventPacker()
    version = event_pb2.Event(wall_time=TIME, file_version="brain.Event:2")
    log = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    start = event_pb2.Event(wall_time=TIME, step=11, session_log=log)
    assert payload(packer.file_version(TIME)) == version.SerializeToString()
    assert payload(packer.start(TIME, 11)) == start.SerializeToString()


def test_a_record_is_the_bytes_of_tensorboards_writer():
    record = _record.EventPacker().scalars(TIME, 3, {"loss": 0.5})
    expected = io.BytesIO()
    RecordWriter(expected).write(payload(record))
    assert record == expected.getvalue()


def test_tensorboards_reader_reads_the_records(tmp_path):
    packer = _record.EventPacker(_crc32c.crc32c_by_tables)
    path = tmp_path / "events"
    path.write_bytes(packer.file_version(TIME) + packer.scalars(TIME, 3, {"loss": 0.5}))
    reader = PyRecordReader_New(os.fspath(path))
    reader.GetNext()
    assert event_pb2.Event.FromString(reader.record()).file_version == "brain.Event:2"
    reader.GetNext()
    event = event_pb2.Event.FromString(reader.record())
    assert (event.step, event.summary.value[0].simple_value) == (3, 0.5)


@pytest.mark.parametrize(("value", "stored"), [(1e300, math.inf), (-1e300, -math.inf)])
def test_a_number_too_large_for_32_bits_is_infinite(value, stored):
    event = event_pb2.Event.FromString(
        payload(_record.EventPacker().scalars(TIME, 0, {"loss": value}))
    )
    assert event.summary.value[0].simple_value == stored


def test_a_value_that_is_no_number_is_an_error():
    with pytest.raises(TypeError, match=r"must be a number. Received: 'high'"):
        _record.EventPacker().scalars(TIME, 0, {"loss": "high"})


def read(data):
    return list(_record.read_records(io.BytesIO(data), _crc32c.crc32c_by_tables))


def test_reading_gives_every_record_with_its_place():
    packer = _record.EventPacker()
    records = [packer.scalars(TIME, step, {"loss": 0.5}) for step in (0, 200, 100_000)]
    found = read(b"".join(records))
    assert [record.event for record in found] == [payload(record) for record in records]
    assert [record.end - record.start for record in found] == [len(record) for record in records]
    assert [record.start for record in found] == [0, len(records[0]), len(records[0] + records[1])]


def test_reading_stops_at_a_tear_wherever_it_is():
    whole = _record.EventPacker().scalars(TIME, 3, {"loss": 0.5})
    for length in range(len(whole)):
        assert len(read(whole + whole[:length])) == 1


def test_reading_tells_a_damaged_event_and_goes_on_behind_it():
    packer = _record.EventPacker()
    data = bytearray(packer.scalars(TIME, 3, {"a": 1.0}) + packer.scalars(TIME, 4, {"a": 1.0}))
    data[20] ^= 1
    assert [record.event is None for record in read(bytes(data))] == [True, False]


def test_reading_stops_at_a_damaged_length():
    data = bytearray(_record.EventPacker().scalars(TIME, 3, {"a": 1.0}))
    data[0] ^= 1
    assert read(bytes(data)) == []


def test_reading_does_not_trust_an_absurd_length():
    length = struct.pack("<Q", 1 << 60)
    crc = struct.pack("<I", _crc32c.masked(_crc32c.crc32c_by_tables(length)))
    assert read(length + crc + b"x" * 100) == []


@pytest.mark.parametrize("step", [0, 5, 2**40, -3])
def test_step_of_a_summary_in_any_form(step):
    value = summary_pb2.Summary.Value(tag="t")
    value.tensor.float_val.append(1.0)
    value.metadata.plugin_data.plugin_name = "scalars"
    summary = summary_pb2.Summary(value=[value])
    event = event_pb2.Event(wall_time=TIME, step=step, summary=summary)
    assert _record.step_of_summary(event.SerializeToString()) == step


@pytest.mark.parametrize(
    "event",
    [
        event_pb2.Event(wall_time=TIME, file_version="brain.Event:2"),
        event_pb2.Event(step=9, session_log=event_pb2.SessionLog(status=1)),
        event_pb2.Event(step=9, graph_def=b"graph"),
    ],
)
def test_other_events_have_no_step_of_a_summary(event):
    assert _record.step_of_summary(event.SerializeToString()) is None


@pytest.mark.parametrize("damage", [b"\x0b", b"\x09\x00", b"\x10\xff", b"\x2a\x05abc"])
def test_bytes_that_are_no_event_are_an_error(damage):
    with pytest.raises(ValueError, match="protocol buffer"):
        _record.step_of_summary(damage)
