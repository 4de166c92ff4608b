"""One start of a program in a fork of this process, and its end from outside.

The imports are done once, before the forks: a start takes as long as its work.
"""

from __future__ import annotations

import faulthandler
import json
import os
import select
import signal
import sys
import time
import traceback
from dataclasses import dataclass

SECONDS = 60  # of a start; one that takes longer hangs
END, KILL = "", "kill"  # beside the letters that a program says


@dataclass(frozen=True)
class Kill:
    """A moment: so many seconds after the fork, or after the letter that the program says."""

    seconds: float
    after: str | None = None


@dataclass(frozen=True)
class Start:
    """How one ended.

    Args:
        result: What the program returned; `None` if it was killed or failed.
        killed: Whether the kill came before its end.
        error: What it printed, if it failed or hung.
        said: When it said which letter, in seconds after the fork; and its `END` and `KILL`.
    """

    result: object
    killed: bool
    error: str | None
    said: dict[str, float]


def start(program, log, kill=None, limit=SECONDS):
    """Runs `program(say)` in a fork, where `say` takes one letter, and kills it if asked to.

    Args:
        program: Returns what JSON can hold.
        log: Path, for what it prints and returns.
        kill: A `Kill`, or `None`.
        limit: Seconds until it ends itself, and prints where each of its threads is.
    """
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    begun = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _run(program, log, writer, limit)
    os.close(writer)
    said = _watch(reader, pid, begun, kill, limit)
    os.close(reader)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    printed = log.read_text(errors="replace") if log.exists() else ""
    if code == 0:
        return Start(json.loads(printed.splitlines()[-1]), False, None, said)
    if code == -signal.SIGKILL and KILL in said:
        return Start(None, True, None, said)
    return Start(None, False, f"it ended with {code}:\n{printed}", said)


def _watch(reader, pid, begun, kill, limit):
    """Kills at the moment, and returns what was said when; the pipe ends with the process."""
    said = {}
    moment = begun + kill.seconds if kill is not None and kill.after is None else None
    last = begun + 2 * limit  # for one that cannot even end itself
    while END not in said:
        until = last if moment is None else moment
        wait = None if until is None else max(0.0, until - time.monotonic())
        if select.select([reader], [], [], wait)[0]:
            word = os.read(reader, 1).decode()
            first = word not in said
            said.setdefault(word, time.monotonic() - begun)
            if first and kill is not None and kill.after == word:
                moment = time.monotonic() + kill.seconds
            continue
        os.kill(pid, signal.SIGKILL)
        if moment is not None:
            said[KILL] = time.monotonic() - begun
        moment = last = None
    return said


def _run(program, log, writer, limit):
    """In the fork: the program, its result as the last line of the log, and no end but this."""
    code = 1
    try:
        printed = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(printed, 1)
        os.dup2(printed, 2)
        faulthandler.enable(file=2)
        faulthandler.dump_traceback_later(limit, exit=True, file=2)
        result = program(lambda word: os.write(writer, word.encode()))
        print("\n" + json.dumps(result), flush=True)
        code = 0
    except BaseException:  # noqa: BLE001 - it is printed, and the exit status tells of it
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # threads of the data's may still run
