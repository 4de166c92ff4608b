"""The record of what is committed: one versioned, checksummed JSON file <-> frozen dataclasses."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from keras_callbacks_plus.errors import ManifestError

__all__ = ["CheckpointRecord", "LedgerLine", "Manifest", "Pending"]

FORMAT = "keras-callbacks-plus checkpoints"
VERSION = 1
LEDGER_LENGTH = 1000


@dataclass(frozen=True)
class CheckpointRecord:
    """One committed checkpoint.

    Args:
        path: Name of the file, relative to the folder.
        series: Which callback's files it belongs to: the file name with its placeholders.
        kind: `"model"`, `"weights"` or `"training_state"`.
        epoch: The epoch it was saved in, counted from 0.
        batch: The batch it was saved after, counted from 0; `None` at the end of an epoch.
        step: The optimizer's step.
        metrics: Every scalar that was logged.
        size: Bytes.
        checksum: `"crc32:<hex>"` of the file.
        blocks: Checksums that locate damage: of the bytes up to the end of each 8 MiB.
        time: When it was committed, in seconds since 1970.
        sequence: Its place in the order of commits to the folder.
        kept_because: What the retention policy said last.
    """

    path: str
    series: str
    kind: str
    epoch: int | None
    batch: int | None
    step: int | None
    metrics: Mapping[str, float]
    size: int
    checksum: str
    blocks: tuple[str, ...]
    time: float
    sequence: int
    kept_because: str = ""


@dataclass(frozen=True)
class Pending:
    """A staged file that is about to get its name: written down before, so that a crash in between
    leaves no file that nothing names.
    """

    staged: str
    record: CheckpointRecord


@dataclass(frozen=True)
class LedgerLine:
    """What became of a checkpoint, and why."""

    time: float
    path: str
    action: str
    reason: str


@dataclass(frozen=True)
class Manifest:
    """All that is known of a folder.

    Args:
        records: The committed checkpoints, in the order of their commits.
        pending: A commit under way, or `None`.
        evicting: Files that are no checkpoints any more and may still be there.
        ledger: The last 1,000 decisions.
        next_sequence: Number of the next commit.
    """

    records: tuple[CheckpointRecord, ...] = ()
    pending: Pending | None = None
    evicting: tuple[str, ...] = ()
    ledger: tuple[LedgerLine, ...] = field(default=())
    next_sequence: int = 0

    def with_lines(self, *lines: LedgerLine) -> Manifest:
        """The same with more lines in the ledger, and the oldest gone where it is full."""
        return replace(self, ledger=(*self.ledger, *lines)[-LEDGER_LENGTH:])

    def to_bytes(self) -> bytes:
        """Strict JSON with a checksum over its content."""
        content = asdict(self)
        for record in (*content["records"], *_pending_records(content)):
            record["metrics"] = {k: _encode(v) for k, v in record["metrics"].items()}
        body = json.dumps(content, allow_nan=False, sort_keys=True)
        head = {"format": FORMAT, "version": VERSION, "checksum": _checksum(body)}
        return (json.dumps({**head, "content": content}, allow_nan=False, indent=1) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes, path: str) -> Manifest:
        """Reads what `to_bytes` wrote.

        Args:
            data: The bytes.
            path: Where they are from, for the errors.

        Raises:
            ManifestError: If they are damaged, or of a version that is not known here.
        """
        try:
            document = json.loads(data)
            version = document["version"] if document["format"] == FORMAT else None
        except (ValueError, KeyError, TypeError) as error:
            raise ManifestError(
                f"{path} is damaged: it is not a manifest ({error}).", path
            ) from error
        if version is None or version > VERSION:
            raise ManifestError(
                f"{path} is a manifest of format {document['format']!r} version {version}; this "
                f"installation reads {FORMAT!r} up to version {VERSION}. Install a newer "
                "keras-callbacks-plus, or use another folder.",
                path,
            )
        content = document["content"]
        if _checksum(json.dumps(content, allow_nan=False, sort_keys=True)) != document["checksum"]:
            raise ManifestError(f"{path} is damaged: its checksum does not match.", path)
        pending = content["pending"]
        return cls(
            records=tuple(_record(r) for r in content["records"]),
            pending=None
            if pending is None
            else Pending(pending["staged"], _record(pending["record"])),
            evicting=tuple(content["evicting"]),
            ledger=tuple(LedgerLine(**line) for line in content["ledger"]),
            next_sequence=content["next_sequence"],
        )


def _pending_records(content: dict[str, Any]) -> list[dict[str, Any]]:
    return [] if content["pending"] is None else [content["pending"]["record"]]


def _record(content: dict[str, Any]) -> CheckpointRecord:
    known = {f.name for f in fields(CheckpointRecord)}
    values = {name: value for name, value in content.items() if name in known}
    values["metrics"] = {k: _decode(v) for k, v in values["metrics"].items()}
    values["blocks"] = tuple(values["blocks"])
    return CheckpointRecord(**values)


def _encode(value: float) -> float | str:
    return value if math.isfinite(value) else repr(float(value))  # "nan", "inf", "-inf"


def _decode(value: float | str) -> float:
    return float(value)


def _checksum(body: str) -> str:
    return "sha256:" + hashlib.sha256(body.encode()).hexdigest()
