"""`kcp demo`: trains on real digits with five callbacks, is killed, goes on, and proves its claims.

The same script (`training.py`) is run twice: once left alone, and once killed in the middle of an
epoch and started again. What the two leave behind is read back from their files and compared.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from keras_callbacks_plus._terminal import Terminal
from keras_callbacks_plus.demo import checks, processes, report, settings
from keras_callbacks_plus.demo.evidence import Evidence, Interruption, collect
from keras_callbacks_plus.demo.files import write_bytes, write_json
from keras_callbacks_plus.demo.folder import DemoFolder, FolderError, as_json, from_json
from keras_callbacks_plus.demo.processes import Attempt, ChildError, Crew, Position
from keras_callbacks_plus.errors import CallbacksPlusError
from keras_callbacks_plus.storage import LocalFileSystem

__all__ = ["add_arguments", "main", "run"]

_NEEDED = {"sklearn": "demo", "matplotlib": "demo"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `kcp demo`.

    Args:
        parser: Where to.
    """
    parser.add_argument(
        "--dir", default="runs/digits", help="folder to work in (default: %(default)s)"
    )
    parser.add_argument(
        "--fresh", action="store_true", help="start anew, even if an earlier demo was cut short"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the demo.

    Args:
        argv: Arguments of the command line. Defaults to `None`, those of the process.

    Returns:
        The exit status: 0 if every claim holds, 1 if not, 2 if it could not be run.
    """
    parser = argparse.ArgumentParser(prog="kcp demo", description=__doc__)
    add_arguments(parser)
    arguments = parser.parse_args(argv)
    return run(Path(arguments.dir), fresh=arguments.fresh, terminal=Terminal())


def run(directory: Path, *, fresh: bool, terminal: Terminal) -> int:
    """Runs the demo, or goes on with one that was cut short.

    Args:
        directory: The folder to work in.
        fresh: Whether to start anew in any case.
        terminal: Where to print.

    Returns:
        The exit status, as in `main`.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        terminal.print(
            f"The demo needs {' and '.join(missing)}. "
            'Install them with: pip install "keras-callbacks-plus[demo]"',
            "bold red",
        )
        return 2
    folder = DemoFolder(directory)
    try:
        folder.check()
        directory.mkdir(parents=True, exist_ok=True)
        filesystem = LocalFileSystem()
        if folder.lock.exists() and filesystem.is_locked(str(folder.lock)):
            raise FolderError(f"Another demo is running in {directory}. Wait, or choose --dir.")
        with filesystem.lock(str(folder.lock)):
            return _run(folder, fresh, terminal)
    except (FolderError, ChildError, CallbacksPlusError) as error:
        terminal.print(str(error), "bold red")
        return 2
    except KeyboardInterrupt:
        terminal.print("\nInterrupted. The same command goes on from here.", "bold")
        return 130


def _run(folder: DemoFolder, fresh: bool, terminal: Terminal) -> int:
    started = time.monotonic()
    story = folder.story()
    if story is not None and (fresh or story.get("finished")):
        folder.start_over()
        story = None
    elif story is not None:
        terminal.print(f"Going on with the demo in {folder.path} (--fresh starts anew).", "bold")
    if story is None:
        terminal.print(f"A new demo in {folder.path}.", "bold")
        folder.tell(finished=False)

    with Crew() as crew:
        interruption = _train_both(folder, crew, terminal)
        terminal.print("\n3. Reading everything back with plain Keras and TensorBoard ...", "bold")
        evidence = collect(folder.path, interruption, crew)
    evidence = _with_picture(evidence, folder.path)
    claims = checks.check(evidence)

    terminal.print()
    report.print_kept(terminal, evidence.interrupted)
    report.print_claims(terminal, claims)
    report.print_files(terminal, folder.path)
    terminal.print(f"\n{time.monotonic() - started:.0f} s in all.")
    write_json(folder.path / "report.json", [dataclasses.asdict(claim) for claim in claims])
    folder.tell(finished=True)
    return 0 if all(claim.holds for claim in claims) else 1


def _train_both(folder: DemoFolder, crew: Crew, terminal: Terminal) -> Interruption | None:
    def prepare_next() -> None:
        crew.prepare_training(folder.run("interrupted"))

    terminal.print("\n1. A training that is left alone", "bold")
    if not (folder.story() or {}).get("uninterrupted"):
        folder.clear("uninterrupted")  # one that was cut short is no longer uninterrupted
        attempt = _train(folder, "uninterrupted", crew, terminal, meanwhile=prepare_next)
        folder.tell(uninterrupted=True, backend=attempt.backend)
    else:
        terminal.print("done before")

    terminal.print("\n2. The same training, killed in the middle of an epoch", "bold")
    while (folder.story() or {}).get("kill") is None:
        attempt = _train(
            folder, "interrupted", crew, terminal, kill_when=_time_to_kill, meanwhile=prepare_next
        )
        if not attempt.killed or attempt.last is None:
            break
        terminal.print(
            f"Killed: process {attempt.pid}, exit status {attempt.returncode}, after batch "
            f"{attempt.last.batches} of epoch {attempt.last.epoch + 1}. Starting it again:",
            "bold",
        )
        if attempt.last.batches < settings.STEPS_PER_EPOCH:  # else it was too fast: once more
            folder.tell(kill=[attempt.returncode, as_json(attempt.last)])
    story = folder.story() or {}
    if not story.get("interrupted"):
        _train(folder, "interrupted", crew, terminal, meanwhile=crew.prepare_reader)
        story = folder.tell(interrupted=True)
    else:
        terminal.print("done before")
    return _interruption(story)


def _interruption(story: dict[str, Any]) -> Interruption | None:
    if story.get("kill") is None:
        return None
    returncode, position = story["kill"]
    return Interruption(returncode, Position(*position), from_json(story.get("resumed")))


def _time_to_kill(position: Position) -> bool:
    return position >= Position(settings.KILL_EPOCH, settings.KILL_AFTER_BATCHES)


def _train(
    folder: DemoFolder,
    name: str,
    crew: Crew,
    terminal: Terminal,
    meanwhile: Callable[[], None],
    kill_when: Callable[[Position], bool] = processes.never,
) -> Attempt:
    total = settings.EPOCHS * settings.STEPS_PER_EPOCH
    words = ""
    with terminal.progress(name, total, every=5 * settings.STEPS_PER_EPOCH) as show:
        show(0, "starting Keras ...")

        def on_message(message: dict[str, Any]) -> None:
            nonlocal words
            if "backend" in message:
                _same_backend(folder, message["backend"])
                meanwhile()
            if "scores" in message:
                scores = message["scores"]
                words = (
                    f"epoch {message['epoch'] + 1:2} of {settings.EPOCHS}  "
                    f"val_loss {scores['val_loss']:.4f}  "
                    f"val_accuracy {scores['val_accuracy']:.1%}"
                )
                show((message["epoch"] + 1) * settings.STEPS_PER_EPOCH, words)
            elif "batches" in message:
                _note_resumption(folder, Position(message["epoch"], message["batches"]))
                done = message["epoch"] * settings.STEPS_PER_EPOCH + message["batches"]
                show(done, words or f"epoch {message['epoch'] + 1:2} of {settings.EPOCHS}")
            elif message.get("done"):
                show(total, f"{words}  finished after {message['epochs']} epochs")

        attempt = crew.train(folder.run(name), on_message=on_message, kill_when=kill_when)
    if not attempt.killed and attempt.returncode != 0:
        raise ChildError(
            f"The training in {folder.run(name)} ended with status {attempt.returncode}.\n"
            f"{processes.end_of_log(folder.run(name))}\n"
            "Once the cause is gone, the same command goes on from here."
        )
    return attempt


def _note_resumption(folder: DemoFolder, position: Position) -> None:
    """Writes down at once where the training went on: the demo itself may be killed later."""
    story = folder.story() or {}
    if story.get("kill") is not None and story.get("resumed") is None:
        folder.tell(resumed=as_json(position))


def _same_backend(folder: DemoFolder, backend: str) -> None:
    before = (folder.story() or {}).get("backend", backend)
    if before != backend:
        raise FolderError(
            f"The demo in {folder.path} was begun with KERAS_BACKEND={before}, and this is "
            f"{backend}. Set KERAS_BACKEND={before} to go on, or start anew with --fresh."
        )


def _with_picture(evidence: Evidence, directory: Path) -> Evidence:
    picture = report.draw_curves(evidence)
    write_bytes(directory / "curves.png", picture)
    return dataclasses.replace(evidence, pictures=picture)


if __name__ == "__main__":
    sys.exit(main())
