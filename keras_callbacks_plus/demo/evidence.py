"""What the runs left behind, read back from their files: what the claims are checked against."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_callbacks_plus.demo import data, settings
from keras_callbacks_plus.demo.files import read_json, write_arrays
from keras_callbacks_plus.demo.processes import Crew, Position
from keras_callbacks_plus.storage import CheckpointStore

__all__ = ["Evidence", "Interruption", "KeptFile", "RunEvidence", "collect"]

Chart = Sequence[tuple[int, float]]


@dataclass(frozen=True)
class Interruption:
    """How a training was killed, and where the next process went on.

    Args:
        returncode: Of the killed process, as the system gave it; -9 is SIGKILL.
        killed_at: The last thing it reported.
        resumed_at: The first thing the next one reported.
    """

    returncode: int
    killed_at: Position
    resumed_at: Position | None


@dataclass(frozen=True)
class KeptFile:
    """A checkpoint: what the manifest says of it, and what plain Keras found in it.

    Args:
        name: Its name.
        epoch: Counted from 0.
        logged: The scores that were logged when it was saved.
        scores: What plain Keras measured, by data set.
        weights: SHA-256 of each weight in it, in the model's order.
        optimizer: SHA-256 of each variable of the optimizer.
    """

    name: str
    epoch: int
    logged: Mapping[str, float]
    scores: Mapping[str, Mapping[str, float]]
    weights: Sequence[str]
    optimizer: Sequence[str]


@dataclass(frozen=True)
class RunEvidence:
    """What one run left behind.

    Args:
        result: The content of its `result.json`.
        digests: SHA-256 of each variable at the end, by name
            (`weights/000/...`, `seeds/...`, `optimizer/...`).
        kept: Its checkpoints, the best one first.
        charts: What TensorBoard reads: points by name.
    """

    result: Mapping[str, Any]
    digests: Mapping[str, str]
    kept: Sequence[KeptFile]
    charts: Mapping[str, Chart]


@dataclass(frozen=True)
class Evidence:
    """All that the claims are checked against.

    Args:
        uninterrupted: The run that was left alone.
        interrupted: The run that was killed, and went on.
        interruption: The kill, or `None` if there was none.
        package_was_imported: Whether the process that read the files back had, or could have,
            imported this package.
        pictures: The bytes of `curves.png`.
    """

    uninterrupted: RunEvidence
    interrupted: RunEvidence
    interruption: Interruption | None
    package_was_imported: bool
    pictures: bytes = b""


def collect(directory: Path, interruption: Interruption | None, crew: Crew) -> Evidence:
    """Reads everything back.

    Args:
        directory: The folder of the demo.
        crew: Has the process that reads.
        interruption: What happened on the way.

    Returns:
        The evidence, but for the picture, which is drawn from it.
    """
    digits = data.load()
    arrays = {"batch_size": np.array(settings.BATCH_SIZE)}
    for name in ("validation", "test"):
        images, labels = getattr(digits, name)
        arrays |= {f"{name}_images": images, f"{name}_labels": labels}
    write_arrays(directory / "digits.npz", arrays)

    runs = {name: (directory / name).resolve() for name in ("uninterrupted", "interrupted")}
    stores = {name: CheckpointStore(run / "checkpoints") for name, run in runs.items()}
    models = [s.path_of(record) for s in stores.values() for record in s.records()]
    answer = crew.read_back(
        {
            "data": str((directory / "digits.npz").resolve()),
            "models": models,
            "charts": [str(run / "logs") for run in runs.values()],
        },
    )
    evidence = {name: _run(runs[name], stores[name], answer) for name in runs}
    return Evidence(
        evidence["uninterrupted"],
        evidence["interrupted"],
        interruption,
        package_was_imported=bool(answer["importable"] or answer["imported"]),
    )


def _run(directory: Path, store: CheckpointStore, answer: Mapping[str, Any]) -> RunEvidence:
    kept = []
    for record in store.records():
        store.verify(record)
        found = answer["models"][store.path_of(record)]
        kept.append(
            KeptFile(
                name=record.path,
                epoch=-1 if record.epoch is None else record.epoch,
                logged=record.metrics,
                scores=found["scores"],
                weights=found["weights"],
                optimizer=found["optimizer"],
            )
        )
    with np.load(directory / "final_state.npz") as arrays:
        digests = {name: digest(arrays[name]) for name in arrays.files}
    return RunEvidence(
        result=read_json(directory / "result.json"),
        digests=digests,
        kept=sorted(kept, key=lambda k: k.logged.get("val_loss", float("inf"))),
        charts={
            name: [(step, value) for step, value in points]
            for name, points in answer["charts"][str(directory / "logs")].items()
        },
    )


def digest(array: np.ndarray[Any, Any]) -> str:
    """SHA-256 of an array's type, shape and bytes; `_plain_keras.py` has the same.

    Args:
        array: The array.
    """
    return hashlib.sha256(f"{array.dtype.str}{array.shape}".encode() + array.tobytes()).hexdigest()
