"""The `kcp` command: thin, prints what the store and the demo answer."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from keras_callbacks_plus import _inspection
from keras_callbacks_plus._terminal import Terminal
from keras_callbacks_plus._version import __version__
from keras_callbacks_plus.errors import CallbacksPlusError, CheckpointCorruptedError
from keras_callbacks_plus.storage import CheckpointRecord, CheckpointStore

__all__ = ["main"]

_OK, _NEGATIVE, _UNUSABLE = 0, 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the `kcp` command.

    Args:
        argv: Arguments of the command line. Defaults to `None`, those of the process.

    Returns:
        The exit status: 0; 1 where the answer is no (a damaged file, a claim that does not hold,
        nothing found); 2 where the question could not be asked.
    """
    arguments = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace, Terminal], int] = arguments.command
    try:
        return command(arguments, Terminal())
    except CallbacksPlusError as error:
        print(error, file=sys.stderr)
        return _UNUSABLE


def _parser() -> argparse.ArgumentParser:
    from keras_callbacks_plus import demo

    parser = argparse.ArgumentParser(prog="kcp", description="Checkpoints of Keras trainings.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[..., int], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(command=command)
        return added

    demo.add_arguments(
        add("demo", _demo, "Train on real digits, get killed, go on, and prove every claim.")
    )
    for name, command, text in (
        ("ls", _list, "List the checkpoints of a folder."),
        ("verify", _verify, "Compare every checkpoint with its checksum."),
        ("best", _best, "Print the path of the best checkpoint."),
        ("rm", _remove, "Remove checkpoints, and their lines in the manifest."),
    ):
        added = add(name, command, text)
        added.add_argument("directory", metavar="DIR", help="a folder that ModelCheckpoint writes")
        if name != "rm":
            added.add_argument("--json", action="store_true", help="print JSON")
        if name == "best":
            added.add_argument("--monitor", default="val_loss", help="default: %(default)s")
            added.add_argument(
                "--mode", choices=("auto", "min", "max"), default="auto", help="which is better"
            )
        if name == "rm":
            added.add_argument("names", metavar="FILE", nargs="*", help="as `kcp ls` names them")
            added.add_argument("--all", action="store_true", help="all checkpoints of the folder")
            added.add_argument("--dry-run", action="store_true", help="only say what would go")
    _inspection.add_commands(add)
    return parser


def _demo(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from keras_callbacks_plus import demo

    return demo.run(Path(arguments.dir), fresh=arguments.fresh, terminal=terminal)


def _list(arguments: argparse.Namespace, terminal: Terminal) -> int:
    store, records = _open(arguments.directory)
    if arguments.json:
        print(_as_json([_facts(store, record) for record in records]))
        return _OK
    metrics = sorted({name for record in records for name in record.metrics})
    columns = [
        "file",
        ">epoch",
        *(f">{name}" for name in metrics),
        ">size",
        "saved",
        "kept because",
    ]
    terminal.table(columns, [_row(record, metrics) for record in records])
    return _OK


def _verify(arguments: argparse.Namespace, terminal: Terminal) -> int:
    store, records = _open(arguments.directory)
    answers = [_verdict(store, record) for record in records]
    if arguments.json:
        print(_as_json(answers))
    else:
        for answer in answers:
            mark, style = ("ok  ", "green") if answer["ok"] else ("FAIL", "bold red")
            terminal.print(f"{mark}  {answer['error'] or answer['path']}", style)
    return _OK if all(answer["ok"] for answer in answers) else _NEGATIVE


def _best(arguments: argparse.Namespace, terminal: Terminal) -> int:  # noqa: ARG001 - prints no table
    from keras_callbacks_plus.policies import BestN, Monitor

    store, records = _open(arguments.directory)
    monitor = Monitor(arguments.monitor, _direction(arguments.monitor, arguments.mode))
    decisions = BestN(1, monitor).decide(records)
    best = [r for r, decision in zip(records, decisions, strict=True) if decision.keep]
    if not best:
        logged = ", ".join(sorted({name for record in records for name in record.metrics}))
        print(
            f"No checkpoint in {store.directory} has a value of {monitor.name!r} that ranks. "
            f"Logged: {logged or 'nothing'}. Choose one with --monitor.",
            file=sys.stderr,
        )
        return _NEGATIVE
    if arguments.json:
        print(_as_json(_facts(store, best[0])))
    else:
        print(store.path_of(best[0]))  # alone on its line, for `cp $(kcp best runs/a) .`
    return _OK


def _remove(arguments: argparse.Namespace, terminal: Terminal) -> int:
    store, records = _open(arguments.directory)
    known = [record.path for record in records]
    unknown = [name for name in arguments.names if name not in known]
    if unknown:
        print(
            f"{unknown[0]!r} is not a checkpoint of {store.directory}. "
            f"There are: {', '.join(known)}. Nothing was removed.",
            file=sys.stderr,
        )
        return _UNUSABLE
    if bool(arguments.names) == arguments.all:
        print("Name the files to remove, or pass --all. Nothing was removed.", file=sys.stderr)
        return _UNUSABLE
    names = known if arguments.all else arguments.names
    if not arguments.dry_run:
        with store.transaction() as transaction:
            transaction.decide(lambda _: dict.fromkeys(names, (False, "removed by hand")))
    verb = "would remove" if arguments.dry_run else "removed"
    for name in names:
        terminal.print(f"{verb} {os.path.join(store.directory, name)}")
    return _OK


def _verdict(store: CheckpointStore, record: CheckpointRecord) -> dict[str, Any]:
    path = store.path_of(record)
    try:
        store.verify(record)
    except CheckpointCorruptedError as error:
        return {"path": path, "ok": False, "error": str(error)}
    return {"path": path, "ok": True, "error": None}


class _NothingThereError(CallbacksPlusError):
    """There is no manifest; the message says where there may be one."""


def _open(directory: str) -> tuple[CheckpointStore, tuple[CheckpointRecord, ...]]:
    store = CheckpointStore(directory)
    records = store.records()
    if records:
        return store, records
    if not os.path.isdir(directory):
        raise _NothingThereError(f"There is no folder {directory}.")
    below = sorted(str(path.parent) for path in Path(directory).glob("**/checkpoints.json"))
    below = [path for path in below if path != str(Path(directory))]
    hint = f" There are some in {', '.join(below)}." if below else ""
    raise _NothingThereError(f"There are no checkpoints recorded in {directory}.{hint}")


def _direction(monitor: str, mode: str) -> Any:
    if mode != "auto":
        return mode
    if "loss" in monitor or "error" in monitor:
        return "min"
    if "acc" in monitor or "auc" in monitor:
        return "max"
    raise CallbacksPlusError(
        f"Whether a high or a low {monitor!r} is better is not known here. "
        "Say it with --mode min or --mode max."
    )


def _row(record: CheckpointRecord, metrics: Sequence[str]) -> list[str]:
    values = (record.metrics.get(name) for name in metrics)
    return [
        record.path,
        "" if record.epoch is None else str(record.epoch + 1),
        *("" if value is None else f"{value:.5g}" for value in values),
        _size(record.size),
        datetime.fromtimestamp(record.time).strftime("%Y-%m-%d %H:%M"),
        record.kept_because,
    ]


def _size(count: int) -> str:
    if count < 1000:
        return f"{count} B"
    power = min(int(math.log10(count) / 3), 4)
    return f"{count / 1000**power:.1f} {' kMGT'[power]}B"


def _facts(store: CheckpointStore, record: CheckpointRecord) -> dict[str, Any]:
    return {**asdict(record), "path": store.path_of(record)}


def _as_json(content: Any) -> str:
    return json.dumps(_finite(content), indent=1, allow_nan=False)


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: they are written as strings, as in the manifest."""
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


if __name__ == "__main__":
    sys.exit(main())
