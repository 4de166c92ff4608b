"""`kcp inspect` and `kcp diff`: what a snapshot of a run holds, and how two of them differ."""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import numpy as np

from keras_callbacks_plus._terminal import Terminal
from keras_callbacks_plus.errors import CheckpointNotFoundError
from keras_callbacks_plus.storage import SERIES, CheckpointStore, check_snapshot, read_container

__all__ = ["add_commands"]

_SAME, _DIFFERENT = 0, 1


def add_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the two commands.

    Args:
        add: Takes a name, a function of `(arguments, terminal)` and a text; returns the parser.
    """
    text = "Show what the newest snapshot of a run holds."
    inspect = add("inspect", _inspect, text)
    inspect.add_argument("directory", metavar="DIR", help="a folder of BackupAndRestore, or a file")
    inspect.add_argument("--json", action="store_true", help="print JSON")
    diff = add("diff", _diff, "Show how two snapshots differ; the exit status is 1 if they do.")
    diff.add_argument("one", metavar="A", help="a folder of BackupAndRestore, or a file in it")
    diff.add_argument("other", metavar="B", help="another")
    diff.add_argument("--json", action="store_true", help="print JSON")


def _inspect(arguments: argparse.Namespace, terminal: Terminal) -> int:
    path, tree = _open(arguments.directory)
    facts = _facts(path, tree)
    if arguments.json:
        print(json.dumps(facts, indent=2))
        return _SAME
    terminal.table(["what", "value"], [[name, _shown(value)] for name, value in facts.items()])
    return _SAME


def _diff(arguments: argparse.Namespace, terminal: Terminal) -> int:
    one, other = (dict(_leaves(_open(name)[1])) for name in (arguments.one, arguments.other))
    missing = object()
    different = [
        (place, _brief(one.get(place, missing)), _brief(other.get(place, missing)))
        for place in {**one, **other}
        if place != "time" and not _equal(one.get(place, missing), other.get(place, missing))
    ]
    if arguments.json:
        print(json.dumps([dict(zip(("place", "a", "b"), row, strict=True)) for row in different]))
    elif different:
        terminal.table(["where", "A", "B"], [list(row) for row in different])
    else:
        terminal.print("The two hold the same.")
    return _DIFFERENT if different else _SAME


def _open(name: str) -> tuple[str, dict[str, Any]]:
    """The snapshot in a file, or the newest in a folder."""
    if os.path.isfile(name):
        return name, check_snapshot(read_container(name), name)
    store = CheckpointStore(name)
    records = store.records(SERIES)
    if not records:
        raise CheckpointNotFoundError(
            f"There is no snapshot in {name}. Name a folder that BackupAndRestore writes to (it is "
            "removed when `fit` has finished, unless delete_checkpoint=False).",
            name,
        )
    path = store.path_of(records[-1])
    return path, check_snapshot(read_container(path), path)


def _facts(path: str, tree: dict[str, Any]) -> dict[str, Any]:
    fingerprint = tree["fingerprint"]
    arrays = [leaf for _, leaf in _leaves(tree) if isinstance(leaf, np.ndarray)]
    model = tree["model"]
    return {
        "file": path,
        "bytes": os.path.getsize(path),
        "saved": datetime.fromtimestamp(tree["time"]).astimezone().isoformat(timespec="seconds"),
        "format": tree["format"],
        "goes on in epoch": tree["epoch"],
        "after batches of it": tree["batches_of_epoch"],
        "batches in all": tree["batches"],
        "epochs asked for": tree["epochs"],
        "stopped": tree["stopped"],
        "arrays": len(arrays),
        "bytes of arrays": int(sum(array.nbytes for array in arrays)),
        "variables of the model": len(model["variables"]),
        "variables of the optimizer": len(model["optimizer"]),
        "metric accumulators": len(tree["metrics"] or []),
        "random generators": sorted(tree["random"]),
        "learning rates of the script": tree["rates"],
        "callbacks": [name.rsplit(".", 1)[-1] for name in fingerprint["callbacks"]],
        **{k: v for k, v in fingerprint.items() if isinstance(v, str | int) or v is None},
    }


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple) and len(value) <= 10_000:
        for index, item in enumerate(value):
            yield from _leaves(item, f"{path}[{index}]")
    else:
        yield path, value


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        same_kind = one.dtype == other.dtype and one.shape == other.shape
        return same_kind and one.tobytes() == other.tobytes()
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return type(one) is type(other) and bool(one == other)


def _brief(value: Any) -> str:
    if isinstance(value, np.ndarray):
        if value.size == 1:
            return str(value.reshape(-1)[0])
        norm = float(np.linalg.norm(value.astype("float64").reshape(-1)))
        return f"{value.dtype.name}{list(value.shape)} |{norm:.6g}|"
    if type(value) is object:
        return "absent"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "none" if value is None else str(value)
