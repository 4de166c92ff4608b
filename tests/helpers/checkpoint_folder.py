"""A folder of checkpoints made of plain bytes, through the store."""

from __future__ import annotations

import io
import zipfile
import zlib

from keras_callbacks_plus.storage import CheckpointStore
from keras_callbacks_plus.storage.file_record import encode_record

TEMPLATE = "{epoch:02d}.keras"


class Payload:
    """Bytes that write themselves."""

    def __init__(self, data):
        self.data = data

    def write_to(self, sink):
        sink.write(self.data)


def commit(folder, name, metrics=None, *, data=None, epoch=None, batch=None, **facts):
    """Commits one file.

    Args:
        folder: Path, or a store.
        name: String.
        metrics: What was logged.
        data: Bytes; by default some that tell the file's name.
        epoch: Integer, by default the number of commits before.
        batch: Integer or `None`.
        **facts: `series`, `kind`, `monitor`, `mode`, `clock` where they are not the usual ones.
    """
    clock = facts.pop("clock", lambda: 1_700_000_000.0)
    is_store = isinstance(folder, CheckpointStore)
    store = folder if is_store else CheckpointStore(folder, clock=clock)
    usual = {"series": TEMPLATE, "kind": "model"}
    with store.transaction() as transaction:
        transaction.commit(
            name,
            Payload(f"bytes of {name}".encode() * 10 if data is None else data),
            epoch=len(store.records()) if epoch is None else epoch,
            batch=batch,
            step=None,
            metrics=metrics or {},
            **{**usual, **facts},
        )


def damage(path, offset=3):
    """Flips a bit."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def carrying(record, data=b"weights" * 100):
    """Bytes with a record at their end, as a `.weights.h5` file has it."""
    return data + encode_record(record, f"crc32:{zlib.crc32(data):08x}")


def archive_carrying(record):
    """A zip with a record as its comment, as a `.keras` file has it."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        file.writestr("config.json", "{}" * 100)
        file.comment = carrying(record, b"")  # of the same length
    return carrying(record, data.getvalue()[: -len(file.comment)])
