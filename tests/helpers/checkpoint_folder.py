"""A folder of checkpoints made of plain bytes, through the store."""

from __future__ import annotations

from keras_callbacks_plus.storage import CheckpointStore

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
