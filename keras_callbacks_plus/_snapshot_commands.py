"""`kcp inspect` and `kcp diff`: what a snapshot of a run holds, and how two of them differ."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from keras_callbacks_plus._terminal import Terminal
from keras_callbacks_plus.errors import CheckpointCorruptedError, CheckpointNotFoundError
from keras_callbacks_plus.storage import SERIES, CheckpointStore, check_snapshot, read_container
from keras_callbacks_plus.storage.explained import explained

__all__ = ["add_commands"]

_SAME, _DIFFERENT = 0, 1
_GENERATORS = frozenset({"random", "random_at_data"})


def add_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the two commands.

    Args:
        add: Takes a name, a function of `(arguments, terminal)` and a text; returns the parser.
    """
    text = "Show what the newest snapshot of a run holds."
    inspect = add("inspect", _inspect, text)
    inspect.add_argument("directory", metavar="DIR", help="a folder of BackupAndRestore, or a file")
    inspect.add_argument(
        "--variables", action="store_true", help="list the variables of model and optimizer, too"
    )
    inspect.add_argument("--json", action="store_true", help="print JSON")
    diff = add("diff", _diff, "Show how two snapshots differ; the exit status is 1 if they do.")
    diff.add_argument("one", metavar="A", help="a folder of BackupAndRestore, or a file in it")
    diff.add_argument("other", metavar="B", help="another")
    diff.add_argument("--json", action="store_true", help="print JSON")


def _inspect(arguments: argparse.Namespace, terminal: Terminal) -> int:
    path, tree = _open(arguments.directory)
    facts = _facts(path, tree)
    if arguments.variables:
        leaves = _leaves({"model": tree["model"]}, tree.get("names"))
        facts.update((place.removeprefix("model."), _brief(array)) for place, array in leaves)
    if arguments.json:
        print(json.dumps(facts, indent=2))
        return _SAME
    terminal.table(["what", "value"], [[name, _shown(value)] for name, value in facts.items()])
    return _SAME


def _diff(arguments: argparse.Namespace, terminal: Terminal) -> int:
    trees = [_open(name)[1] for name in (arguments.one, arguments.other)]
    names = trees[0].get("names", {})  # Keras numbers them anew in each process
    one, other = (dict(_leaves({**tree, "names": None}, names)) for tree in trees)
    missing = object()
    pairs = {place: (one.get(place, missing), other.get(place, missing)) for place in one | other}
    different = [
        (place, *_briefs(*pair))
        for place, pair in pairs.items()
        if place != "time" and not _equal(*pair)
    ]
    if arguments.json:
        print(json.dumps([dict(zip(("place", "a", "b"), row, strict=True)) for row in different]))
    elif different:
        terminal.table(["where", "A", "B"], [list(row) for row in different])
    else:
        terminal.print("The two hold the same.")
    return _DIFFERENT if different else _SAME


def _open(name: str) -> tuple[str, dict[str, Any]]:
    """The snapshot in a file, or the newest in a folder that is whole, as `fit` would take it."""
    if os.path.isfile(name):
        return _read(name)
    store = CheckpointStore(name)
    records = store.records(SERIES)
    if not records:
        raise CheckpointNotFoundError(
            f"There is no snapshot in {name}. Name a folder that BackupAndRestore writes to (it is "
            "removed when `fit` has finished, unless delete_checkpoint=False).",
            name,
        )
    *older, newest = [store.path_of(record) for record in records]
    try:
        return _read(newest)
    except CheckpointCorruptedError as error:
        for path in reversed(older):
            with contextlib.suppress(CheckpointCorruptedError):
                found = _read(path)
                print(f"{error} The snapshot before it is shown instead.", file=sys.stderr)
                return found
        raise


def _read(path: str) -> tuple[str, dict[str, Any]]:
    with explained("read", path):  # a training may remove it at any moment
        return path, check_snapshot(read_container(path), path)


def _facts(path: str, tree: dict[str, Any]) -> dict[str, Any]:
    fingerprint = tree["fingerprint"]
    arrays = list(_arrays(tree))
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


def _arrays(value: Any) -> Iterator[Any]:
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _arrays(item)


def _leaves(
    value: Any, names: dict[str, list[str]] | None = None, path: str = ""
) -> Iterator[tuple[str, Any]]:
    """The parts of a snapshot with their places; a generator or a list of numbers is one part."""
    if path.rpartition(".")[2] in _GENERATORS and isinstance(value, dict):
        for key, item in value.items():
            yield f"{path}.{key}", _Generator(_digest(item))
    elif isinstance(value, dict) and "bit_generator" in value:
        yield path, _Generator(_digest(value))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, names, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple) and not _is_simple(value):
        labels: list[Any] = (names or {}).get(path.removeprefix("model."), [])
        known = len(labels) == len(value) == len(set(labels))
        for index, item in enumerate(value):
            yield from _leaves(item, names, f"{path}[{labels[index] if known else index}]")
    else:
        yield path, value


def _is_simple(value: Any) -> bool:
    return bool(value) and all(
        item is None or isinstance(item, str | int | float) for item in value
    )


@dataclass(frozen=True)
class _Generator:
    """The state of a random generator, which nobody can read."""

    digest: str


def _digest(value: Any) -> str:
    digest = hashlib.sha256()
    for place, leaf in _leaves(value):
        digest.update(place.encode() + (leaf.tobytes() if hasattr(leaf, "tobytes") else b""))
        digest.update(repr(leaf).encode())
    return digest.hexdigest()[:8]


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        same_kind = one.dtype == other.dtype and one.shape == other.shape
        return same_kind and one.tobytes() == other.tobytes()
    if isinstance(one, list | tuple) and type(one) is type(other):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return type(one) is type(other) and bool(one == other)


def _briefs(one: Any, other: Any) -> tuple[str, str]:
    """Two values that differ; of two lists, the first place where they do."""
    if isinstance(one, list | tuple) and type(one) is type(other):
        pairs = enumerate(zip(one, other, strict=False))
        place = next((i for i, pair in pairs if not _equal(*pair)), None)
        if place is not None:
            return f"[{place}]: {_brief(one[place])}", f"[{place}]: {_brief(other[place])}"
        return f"{len(one)} values", f"{len(other)} values"
    return _brief(one), _brief(other)


def _brief(value: Any) -> str:
    if isinstance(value, np.ndarray):
        if value.size == 1:
            return str(value.reshape(-1)[0])
        if value.dtype.kind not in "biuf":
            return f"{value.dtype.name}{list(value.shape)}"
        norm = float(np.linalg.norm(value.astype("float64").reshape(-1)))
        return f"{value.dtype.name}{list(value.shape)} |{norm:.6g}|"
    if isinstance(value, _Generator):
        return f"state {value.digest}"
    if type(value) is object:
        return "absent"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "none" if value is None else str(value)
