"""The record of what is committed: one versioned, checksummed JSON file <-> frozen dataclasses."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

from keras_callbacks_plus.errors import ManifestError
from keras_callbacks_plus.storage.checksums import encode_blocks

__all__ = [
    "CheckpointRecord",
    "LedgerLine",
    "Manifest",
    "Pending",
    "as_written",
    "check_bytes",
    "record_from_json",
]

FORMAT = "keras-callbacks-plus checkpoints"
VERSION = 2  # 1 had each value on a line of its own, and the checksums of blocks of 8 MiB
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
        blocks: Checksums that locate damage: of the bytes up to the end of each block, and up to
            the end; base64 of the CRC-32s, four bytes each, the lowest first.
        time: When it was committed, in seconds since 1970.
        sequence: Its place in the order of commits to the folder.
        kept_because: What the retention policy said last.
        monitor: The metric that its callback ranks by, or `None` where it is not known.
        mode: `"min"` or `"max"`, which value of it is better; `None` where `monitor` is.
        block_size: Bytes in a block; 8 MiB where version 1 of the manifest did not say.
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
    blocks: str
    time: float
    sequence: int
    kept_because: str = ""
    monitor: str | None = None
    mode: str | None = None
    block_size: int = 8 << 20

    def with_sequence(self, sequence: int) -> CheckpointRecord:
        """The same with another place in the order of commits."""
        return replace(self, sequence=sequence)

    @cached_property
    def text(self) -> str:
        """Its JSON. It is kept, because all records are written again at each commit."""
        metrics = {name: _encode(value) for name, value in self.metrics.items()}
        return _dumps({**_values(self), "metrics": metrics})


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

    @cached_property
    def text(self) -> str:
        """As in `CheckpointRecord`."""
        return _dumps(_values(self))


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

    def with_record(self, record: CheckpointRecord) -> Manifest:
        """The same with one more checkpoint, in the place of any of the same name."""
        others = tuple(r for r in self.records if r.path != record.path)
        number = max(self.next_sequence, record.sequence + 1)
        return replace(self, records=(*others, record), next_sequence=number)

    def with_lines(self, *lines: LedgerLine) -> Manifest:
        """The same with more lines in the ledger, and the oldest gone where it is full."""
        return replace(self, ledger=(*self.ledger, *lines)[-LEDGER_LENGTH:])

    def to_bytes(self) -> bytes:
        """Strict JSON with a checksum over its content, and a line for each record."""
        pending = "null"
        if self.pending is not None:
            staged = _dumps(self.pending.staged)
            pending = f'{{"record": {self.pending.record.text}, "staged": {staged}}}'
        content: dict[str, str | list[str]] = {
            "records": [record.text for record in self.records],
            "pending": pending,
            "evicting": [_dumps(name) for name in self.evicting],
            "ledger": [line.text for line in self.ledger],
            "next_sequence": _dumps(self.next_sequence),
        }
        head = {"format": FORMAT, "version": VERSION, "checksum": _checksum(_as_text(content))}
        return _laid_out(head, content)

    @classmethod
    def from_bytes(cls, data: bytes, path: str) -> Manifest:
        """Reads what `to_bytes` wrote.

        Args:
            data: The bytes.
            path: Where they are from, for the errors.

        Raises:
            ManifestError: If they are damaged, or of a version that is not known here.
        """
        content = _content(data, path)
        pending = content["pending"]
        return cls(
            records=tuple(record_from_json(r) for r in content["records"]),
            pending=None
            if pending is None
            else Pending(pending["staged"], record_from_json(pending["record"])),
            evicting=tuple(content["evicting"]),
            ledger=tuple(LedgerLine(**line) for line in content["ledger"]),
            next_sequence=content["next_sequence"],
        )


def check_bytes(data: bytes, path: str) -> None:
    """Raises unless every byte is as `Manifest.to_bytes` wrote it.

    Reading is content with the same meaning (`1E5` for `1e5`); this is not, and so finds any
    flipped bit.

    Args:
        data: The bytes.
        path: Where they are from, for the errors.

    Raises:
        ManifestError: If they are damaged, or of a version that is not known here.
    """
    Manifest.from_bytes(data, path)
    expected = as_written(json.loads(data))
    if data != expected:
        pairs = enumerate(zip(data, expected, strict=False))
        shorter = min(len(data), len(expected))
        offset = next((i for i, (now, then) in pairs if now != then), shorter)
        raise ManifestError(
            f"{path} is damaged at byte {offset}: it can be read, and is not what was written. "
            "The next save writes it anew; look after the disk.",
            path,
            offset,
            offset + 1,
        )


def as_written(document: dict[str, Any]) -> bytes:
    """The bytes of a manifest with this meaning.

    Args:
        document: What it is in JSON types, of any version, with its checksum.
    """
    if document["version"] == 1:
        return (json.dumps(document, allow_nan=False, indent=1) + "\n").encode()
    head = {name: value for name, value in document.items() if name != "content"}
    items = document["content"].items()
    return _laid_out(
        head, {k: [_dumps(v) for v in x] if isinstance(x, list) else _dumps(x) for k, x in items}
    )


def _content(data: bytes, path: str) -> dict[str, Any]:
    """What the checksum covers, once it is found right."""
    try:
        document = json.loads(data)
        version = document["version"] if document["format"] == FORMAT else None
        if version is None or version > VERSION:
            raise ManifestError(
                f"{path} is a manifest of format {document['format']!r} version {version}; this "
                f"installation reads {FORMAT!r} up to version {VERSION}. Install a newer "
                "keras-callbacks-plus, or use another folder.",
                path,
                0,
                len(data),
                is_newer=True,
            )
        content: dict[str, Any] = document["content"]
        problem = None
        body = _dumps(content, sort_keys=version == 1)
        if version < 1 or _checksum(body) != document["checksum"]:
            problem = "its checksum does not match"
        elif foreign := [name for name in _names(content) if not _is_plain(name)]:
            problem = f"it names {foreign[0]!r}, which is no file of its own folder"
    except (ValueError, KeyError, TypeError) as error:
        problem = f"it is not a manifest ({error})"
    if problem is not None:
        raise ManifestError(
            f"{path} is damaged between bytes 0 and {len(data)}: {problem}.", path, 0, len(data)
        )
    return content


def _names(content: dict[str, Any]) -> list[str]:
    """Every name that a reader may open, rename or remove."""
    pending = content["pending"]
    names = [record["path"] for record in [*content["records"], *_pending_records(content)]]
    return [*names, *content["evicting"], *([pending["staged"]] if pending else [])]


def _is_plain(name: str) -> bool:
    return name not in ("", ".", "..") and not set(name) & {"/", os.sep, "\0"}


def _pending_records(content: dict[str, Any]) -> list[dict[str, Any]]:
    return [] if content["pending"] is None else [content["pending"]["record"]]


def record_from_json(content: Mapping[str, Any]) -> CheckpointRecord:
    """A record from its fields; those that a later version has added are left out.

    Args:
        content: JSON types by field.

    Raises:
        KeyError, TypeError, ValueError: If a field is missing or is not what it should be.
    """
    known = {f.name for f in fields(CheckpointRecord)}
    values = {name: value for name, value in content.items() if name in known}
    values["metrics"] = {k: _decode(v) for k, v in values["metrics"].items()}
    if isinstance(values["blocks"], list):  # version 1: each in hexadecimal
        values["blocks"] = encode_blocks(int(crc, 16) for crc in values["blocks"])
    return CheckpointRecord(**values)


def _laid_out(head: Mapping[str, Any], content: Mapping[str, str | list[str]]) -> bytes:
    """One line for each record: written fast, and read by people and by `diff`."""
    text = _as_text(content, newline="\n")
    return f'{_dumps(head)[:-1]}, "content": {text}}}\n'.encode()


def _as_text(content: Mapping[str, str | list[str]], newline: str = "") -> str:
    """What `_dumps` makes of the same content, from the JSON of its parts."""
    comma = "," + (newline or " ")
    parts = []
    for name, value in content.items():
        text = value if isinstance(value, str) else f"[{newline}{comma.join(value)}]"
        parts.append(f"{_dumps(name)}: {text}")
    return f"{{{newline}{comma.join(parts)}}}"


def _values(item: Any) -> dict[str, Any]:
    return {f.name: getattr(item, f.name) for f in fields(item)}


def _dumps(value: Any, *, sort_keys: bool = False) -> str:
    return json.dumps(value, allow_nan=False, sort_keys=sort_keys)


def _encode(value: float) -> float | str:
    return value if math.isfinite(value) else repr(float(value))  # "nan", "inf", "-inf"


def _decode(value: float | str) -> float:
    return float(value)


def _checksum(body: str) -> str:
    return "sha256:" + hashlib.sha256(body.encode()).hexdigest()
