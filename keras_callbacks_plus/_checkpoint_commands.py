"""`kcp ls`, `verify`, `best` and `rm`: print what a `Checkpoints` answers."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from keras_callbacks_plus._terminal import Terminal
from keras_callbacks_plus.errors import (
    CheckpointCorruptedError,
    CheckpointNotFoundError,
    CheckpointWarning,
    ManifestError,
    MissingMetricError,
)
from keras_callbacks_plus.policies import Decision, Monitor, RetentionPolicy, parse_policy
from keras_callbacks_plus.reading import Checkpoint, Checkpoints, in_bytes, table_of
from keras_callbacks_plus.storage import CheckpointStore

__all__ = ["add_commands"]

_OK, _NEGATIVE, _UNUSABLE = 0, 1, 2
_POLICY = "BestN(3) | LatestN(1)"


def add_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the commands to the parser.

    Args:
        add: Takes a name, a function and a line of help, and returns the parser of a command.
    """
    listing = add("ls", _list, "List the checkpoints of a folder, oldest first.")
    _add_common(listing)
    listing.add_argument(
        "--ledger", action="store_true", help="list what was kept, evicted or lost, and why"
    )
    _add_common(
        add("verify", _verify, "Compare the manifest and every checkpoint with its checksum."),
        series=False,
    )
    best = add("best", _best, "Print the path of the best checkpoint that is whole.")
    _add_common(best)
    _add_ranking(best)
    removing = add("rm", _remove, "Remove checkpoints, and their lines in the manifest.")
    _add_common(removing)
    _add_ranking(removing)
    removing.add_argument("names", metavar="FILE", nargs="*", help="as `kcp ls` names them")
    removing.add_argument("--all", action="store_true", help="all checkpoints of the folder")
    removing.add_argument(
        "--keep", metavar="POLICY", help=f"all but what this keeps, such as '{_POLICY}'"
    )
    removing.add_argument("--dry-run", action="store_true", help="only say what would go, and why")
    removing.add_argument("--yes", action="store_true", help="do not ask before --keep or --all")


def _add_common(parser: argparse.ArgumentParser, *, series: bool = True) -> None:
    parser.add_argument("directory", metavar="DIR", help="a folder that ModelCheckpoint writes")
    parser.add_argument("--json", action="store_true", help="print JSON")
    if series:
        parser.add_argument(
            "--series", metavar="NAME", help="only these: a file name with its placeholders"
        )


def _add_ranking(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--monitor", metavar="METRIC", help="default: the one that the callback ranks by"
    )
    parser.add_argument(
        "--mode", choices=("auto", "min", "max"), default="auto", help="which value is better"
    )


# -------------------------------------------------------------------- commands


def _list(arguments: argparse.Namespace, terminal: Terminal) -> int:
    found = _opened(arguments)
    if arguments.ledger:
        return _ledger(found, arguments, terminal)
    if not found:
        return _nothing(found, arguments)
    members = found.of(arguments.series)
    if arguments.json:
        print(_as_json([_facts(checkpoint) for checkpoint in members]))
        return _OK
    table = table_of(members, found.recorded_best(), terminal.width)
    terminal.table(table.columns, table.rows, marked=table.marked)
    if table.hidden:
        terminal.print(f"Not shown, as the window is too narrow: {', '.join(table.hidden)}.")
    return _OK


def _ledger(found: Checkpoints, arguments: argparse.Namespace, terminal: Terminal) -> int:
    lines = found.ledger
    if arguments.json:
        print(_as_json([asdict(line) for line in lines]))
        return _OK
    if not lines:
        terminal.print(f"Nothing was decided yet in {found.directory}: every checkpoint is kept.")
        return _OK
    rows = [(_moment(line.time), line.path, line.action, line.reason) for line in lines]
    terminal.table(("when", "file", "", "because"), rows)
    return _OK


def _verify(arguments: argparse.Namespace, terminal: Terminal) -> int:
    store = CheckpointStore(arguments.directory)
    answers = [_verdict(store.manifest_path, store.verify_manifest)]
    with contextlib.suppress(ManifestError):  # said in the first answer
        found = _opened(arguments)
        if not found:
            return _nothing(found, arguments)
        if found.is_rebuilt:
            answers = [_verdict(store.manifest_path, found.verify_manifest)]
        else:
            answers += [_verdict(c.path, c.verify) for c in found]
    if arguments.json:
        print(_as_json(answers))
    else:
        for answer in answers:
            mark, style = ("ok  ", "green") if answer["ok"] else ("FAIL", "bold red")
            terminal.print(f"{mark}  {answer['error'] or answer['path']}", style)
    return _OK if all(answer["ok"] for answer in answers) else _NEGATIVE


def _best(arguments: argparse.Namespace, terminal: Terminal) -> int:  # noqa: ARG001 - prints no table
    found = _opened(arguments)
    try:
        with _warnings_on_stderr():
            best = found.best(arguments.monitor, arguments.mode, series=arguments.series)
    except (CheckpointNotFoundError, MissingMetricError) as error:
        print(error, file=sys.stderr)
        if arguments.json:
            print(_as_json(None))
        return _NEGATIVE
    if arguments.json:
        print(_as_json(_facts(best)))
        return _OK
    print(best.path)  # alone on its line, for `cp $(kcp best runs/a) .`
    metrics = ", ".join(f"{name} {value:.5g}" for name, value in best.metrics.items())
    epoch = "" if best.epoch is None else f"epoch {best.epoch + 1}, "
    print(f"{epoch}{metrics}; saved {_moment(best.time)}, verified", file=sys.stderr)
    return _OK


def _remove(arguments: argparse.Namespace, terminal: Terminal) -> int:
    found = _opened(arguments)
    if not found:
        return _nothing(found, arguments)
    members = found.of(arguments.series)
    ways = [bool(arguments.names), arguments.all, arguments.keep is not None]
    if sum(ways) != 1:
        return _refuse("Name the files to remove, or pass --all, or --keep.")
    if arguments.keep is not None:
        return _prune(found, arguments, terminal)
    known = [checkpoint.name for checkpoint in members]
    unknown = [name for name in arguments.names if name not in known]
    if unknown:
        return _refuse(
            f"{unknown[0]!r} is not a checkpoint of {found.directory}. "
            f"There are: {', '.join(known)}."
        )
    names = known if arguments.all else arguments.names
    going = [c for c in members if c.name in names]
    if arguments.all and not arguments.dry_run and not _is_agreed(arguments, going):
        return _refuse("Pass --yes to remove all.")
    if not arguments.dry_run:
        shown, going = going, list(found.remove(*going))
        for checkpoint in shown:
            if checkpoint not in going:
                print(f"{checkpoint.path} was saved again meanwhile, and stays.", file=sys.stderr)
    decisions = [Decision(c.path, False, "removed by hand") for c in going]
    if arguments.json:
        _print_decisions(going, decisions, removed=not arguments.dry_run)
        return _OK
    verb = "would remove" if arguments.dry_run else "removed"
    for checkpoint in going:
        terminal.print(f"{verb} {checkpoint.path}")
    return _OK


def _prune(found: Checkpoints, arguments: argparse.Namespace, terminal: Terminal) -> int:
    keep = _policy(found, arguments)
    decisions = found.plan(keep, series=arguments.series)
    items = list(found)
    going = [c for c, d in zip(items, decisions, strict=True) if not d.keep]
    removing = bool(going) and not arguments.dry_run
    if not arguments.json:
        rows = [
            (c.name, "keep" if d.keep else "remove", in_bytes(c.size), d.reason)
            for c, d in zip(items, decisions, strict=True)
        ]
        terminal.table(("file", "", ">size", "because"), rows)
        total = in_bytes(sum(c.size for c in going))
        terminal.print(f"{len(going)} of {len(items)} files would go: {total}.")
    if removing and not _is_agreed(arguments, going):
        return _refuse("Pass --yes to remove them, or --dry-run to only look.")
    if removing:
        found.prune(keep, series=arguments.series)
    if arguments.json:
        _print_decisions(items, decisions, removed=removing)
    elif removing:
        terminal.print("Removed.")
    return _OK


# -------------------------------------------------------------------- parts


def _opened(arguments: argparse.Namespace) -> Checkpoints:
    with _warnings_on_stderr():
        return Checkpoints(arguments.directory)


def _nothing(found: Checkpoints, arguments: argparse.Namespace) -> int:
    """There are no checkpoints, which is an answer and no mistake of who asks."""
    if arguments.json:
        print(_as_json([]))
    print(found.why_empty, file=sys.stderr)
    return _NEGATIVE


def _policy(found: Checkpoints, arguments: argparse.Namespace) -> RetentionPolicy:
    keep = parse_policy(arguments.keep, argument="--keep")
    if arguments.monitor is None:
        return keep
    monitor: Monitor = found.monitor(arguments.monitor, arguments.mode, series=arguments.series)
    bound: RetentionPolicy = keep.bind(monitor)  # type: ignore[attr-defined] # all of ours have it
    return bound


def _is_agreed(arguments: argparse.Namespace, going: Sequence[Checkpoint]) -> bool:
    """Whether the user wants it; where nobody can be asked, only `--yes` says so."""
    if arguments.yes:
        return True
    if arguments.json or not sys.stdin.isatty():
        return False
    total = in_bytes(sum(checkpoint.size for checkpoint in going))
    print(f"Remove {len(going)} files, {total}? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _refuse(message: str) -> int:
    print(f"{message} Nothing was removed.", file=sys.stderr)
    return _UNUSABLE


def _print_decisions(
    items: Sequence[Checkpoint], decisions: Sequence[Decision], *, removed: bool
) -> None:
    pairs = zip(items, decisions, strict=True)
    answers = [{**asdict(d), "size": c.size, "removed": removed and not d.keep} for c, d in pairs]
    print(_as_json(answers))


def _verdict(path: str, verify: Callable[[], None]) -> dict[str, Any]:
    answer: dict[str, Any] = {"path": path, "ok": True, "error": None, "offset": None, "end": None}
    answer["suspects"] = []
    try:
        verify()
    except (CheckpointCorruptedError, ManifestError) as error:
        wrong = {"ok": False, "error": str(error), "offset": error.offset, "end": error.end}
        return {**answer, **wrong, "suspects": getattr(error, "suspects", ())}
    except CheckpointNotFoundError as error:  # replaced by a training that goes on
        return {**answer, "error": str(error)}
    return answer


@contextlib.contextmanager
def _warnings_on_stderr() -> Iterator[None]:
    """A damaged file that was skipped is a line for a person, without Python's own frills."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CheckpointWarning)
        try:
            yield
        finally:
            for warning in caught:
                print(warning.message, file=sys.stderr)


def _moment(time: float) -> str:
    return datetime.fromtimestamp(time).strftime("%Y-%m-%d %H:%M:%S")


def _facts(checkpoint: Checkpoint) -> dict[str, Any]:
    return {**asdict(checkpoint.record), "path": checkpoint.path}


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
