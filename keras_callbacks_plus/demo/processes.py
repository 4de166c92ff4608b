"""Starts the demo's child processes, follows what they say, and kills one when told to."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["KILLED", "Attempt", "ChildError", "Crew", "Position", "end_of_log", "never"]

KILLED = 1 if sys.platform == "win32" else -9

_LINES_OF_A_FAILURE = 15


@dataclass(frozen=True, order=True)
class Position:
    """Where a training is: in an epoch (from 0), with that many of its batches done."""

    epoch: int
    batches: int


@dataclass(frozen=True)
class Attempt:
    """What became of one process that trained.

    Args:
        pid: Its number.
        returncode: As the system gave it; -9 after SIGKILL.
        first: After the first batch that it trained, or `None` if it trained none.
        last: After the last one.
        killed: Whether `kill_when` had it killed.
        backend: The Keras backend.
    """

    pid: int
    returncode: int
    first: Position | None
    last: Position | None
    killed: bool
    backend: str | None


class ChildError(RuntimeError):
    """A child process failed; the message has the end of what it said."""


def never(position: Position) -> bool:  # noqa: ARG001 - the signature of `kill_when`
    """The `kill_when` of a training that is left alone."""
    return False


class Training:
    """A child process that trains, once it is told to.

    It imports Keras meanwhile, which takes longer than the training.

    Args:
        directory: The folder of the run. What the child prints goes to `training.log` in it.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        with open(_log(directory), "ab") as log:
            self._child = subprocess.Popen(
                _command(directory),
                stdin=subprocess.PIPE,  # held open: the child ends when we are gone
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment(),
            )

    def follow(
        self, on_message: Callable[[dict[str, Any]], None], kill_when: Callable[[Position], bool]
    ) -> Attempt:
        """Lets it train, to the end or until it is killed.

        Args:
            on_message: Called with each message of the child.
            kill_when: Called after each batch; the child is killed (SIGKILL, no warning) when it
                returns `True`.

        Returns:
            What became of it.
        """
        child, first, last = self._child, None, None
        backend, killed = None, False
        assert child.stdin is not None
        assert child.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it has failed: its log says why
            child.stdin.write(b"go")
            child.stdin.flush()
        for line in child.stdout:
            message = _parse(line)
            if message is None:
                with open(_log(self.directory), "ab") as log:
                    log.write(line)
                continue
            backend = message.get("backend", backend)
            if "batches" in message:
                last = Position(message["epoch"], message["batches"])
                first = first or last
                if not killed and kill_when(last):
                    child.kill()
                    killed = True
            on_message(message)
        return Attempt(child.pid, child.wait(), first, last, killed, backend)

    def end(self) -> None:
        """Ends the process, if it has not ended, and closes the pipes to it."""
        _end(self._child)


class Crew:
    """The child processes of a demo: the next one gets ready while one works.

    Leaving the `with` block ends those that are left.
    """

    def __init__(self) -> None:
        self._spare: Training | None = None
        self._reader: subprocess.Popen[str] | None = None

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._spare is not None:
            self._spare.end()
        if self._reader is not None:
            _end(self._reader)

    def prepare_training(self, directory: Path) -> None:
        """Starts a process that will train in a folder.

        Args:
            directory: The folder of the run.
        """
        if self._spare is None:
            self._spare = Training(directory)

    def train(
        self,
        directory: Path,
        *,
        on_message: Callable[[dict[str, Any]], None],
        kill_when: Callable[[Position], bool] = never,
    ) -> Attempt:
        """Trains in a child process; see `Training.follow`.

        Args:
            directory: The folder of the run.
            on_message: As there.
            kill_when: As there.

        Returns:
            What became of it.
        """
        spare, self._spare = self._spare, None
        training = spare or Training(directory)
        try:
            return training.follow(on_message, kill_when)
        finally:
            training.end()

    def prepare_reader(self) -> None:
        """Starts the process that will read files back; it cannot import this package."""
        if self._reader is None:
            source = Path(__file__).with_name("_plain_keras.py").read_text(encoding="utf-8")
            self._reader = subprocess.Popen(
                [sys.executable, "-c", source],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=_environment(),
            )

    def read_back(self, request: dict[str, Any]) -> dict[str, Any]:
        """Has files read back; see `_plain_keras.py`.

        Args:
            request: What to read.

        Returns:
            What was found.

        Raises:
            ChildError: If the process failed.
        """
        self.prepare_reader()
        assert self._reader is not None
        output, errors = self._reader.communicate(json.dumps(request))
        answer = _parse(output.strip().splitlines()[-1]) if output.strip() else None
        if self._reader.returncode != 0 or answer is None:
            raise ChildError(f"The process with plain Keras failed:\n{_tail(errors)}")
        return answer


def end_of_log(directory: Path) -> str:
    """The last lines of what the training in a folder printed, for an error.

    Args:
        directory: The folder of the run.
    """
    return _tail(_log(directory).read_text(encoding="utf-8", errors="replace"))


def _log(directory: Path) -> Path:
    return directory / "training.log"


def _end(child: subprocess.Popen[Any]) -> None:
    if child.poll() is None:
        child.kill()
        child.wait()
    for pipe in (child.stdin, child.stdout, child.stderr):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):  # what was not read is not wanted
                pipe.close()


def _command(directory: Path) -> list[str]:
    return [sys.executable, "-m", "keras_callbacks_plus.demo._child", str(directory)]


def _environment() -> dict[str, str]:
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONUNBUFFERED": "1"}
    return {**quiet, **os.environ}


def _parse(line: bytes | str) -> dict[str, Any] | None:
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None


def _tail(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-_LINES_OF_A_FAILURE:])
