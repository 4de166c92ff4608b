"""The `kcp` command: the parser, and the exit status; what is printed is in the commands."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from keras_callbacks_plus import _checkpoint_commands, _snapshot_commands
from keras_callbacks_plus._terminal import Terminal, discard_the_rest
from keras_callbacks_plus._version import __version__
from keras_callbacks_plus.errors import (
    CallbacksPlusError,
    CheckpointNotFoundError,
    InvalidArgumentError,
)

__all__ = ["main"]

_NOTHING, _UNUSABLE = 1, 2
_PIPE_CLOSED = 141  # what a shell says of a program that SIGPIPE has ended


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the `kcp` command.

    Args:
        argv: Arguments of the command line. Defaults to `None`, those of the process.

    Returns:
        The exit status: 0; 1 where the answer is no (a damaged file, a claim that does not hold,
        nothing found); 2 where the question could not be asked; 141 where nobody reads the answer
        to its end, as in `kcp ls runs/a | head -2`.
    """
    arguments = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace, Terminal], int] = arguments.command
    try:
        status = command(arguments, Terminal())
        sys.stdout.flush()  # or the error of a pipe that is closed would come after this
        return status
    except BrokenPipeError:
        discard_the_rest()
        return _PIPE_CLOSED
    except InvalidArgumentError as error:
        options = ("mode", "monitor", "series")
        hint = f" Here that is --{error.argument}." if error.argument in options else ""
        print(f"{error}{hint}", file=sys.stderr)
        return _UNUSABLE
    except CheckpointNotFoundError as error:
        print(error, file=sys.stderr)
        return _NOTHING if os.path.exists(error.path) else _UNUSABLE
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
    _checkpoint_commands.add_commands(add)
    _snapshot_commands.add_commands(add)
    return parser


def _demo(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from keras_callbacks_plus import demo

    return demo.run(Path(arguments.dir), fresh=arguments.fresh, terminal=terminal)


if __name__ == "__main__":
    sys.exit(main())
