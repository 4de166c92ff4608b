"""The demo's folder: how far the demo got, and how its own files are cleared away."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_callbacks_plus.demo.files import read_json, write_json
from keras_callbacks_plus.demo.processes import Position
from keras_callbacks_plus.storage import CheckpointStore, atomic

__all__ = ["DemoFolder", "FolderError"]

_FORMAT = "keras-callbacks-plus demo"
_VERSION = 1
_RUNS = ("uninterrupted", "interrupted")
_LOCK = ".demo.lock"
_OWN_FILES = ("curves.png", "digits.npz", "report.json")
_OWN_FILES_OF_A_RUN = ("result.json", "final_state.npz", "training.log", ".training.lock")


class FolderError(RuntimeError):
    """The folder cannot be used; the message says what to do."""


@dataclass(frozen=True)
class DemoFolder:
    """Where the demo lives.

    A demo that was cut short is found in its folder, and goes on. Nothing but the files that the
    demo writes is ever removed from it.

    Args:
        path: The folder.
    """

    path: Path

    @property
    def lock(self) -> Path:
        """The file that is locked while a demo runs here."""
        return self.path / _LOCK

    def run(self, name: str) -> Path:
        """The folder of one of the two runs.

        Args:
            name: `"uninterrupted"` or `"interrupted"`.
        """
        return self.path / name

    def check(self) -> None:
        """Raises `FolderError` where there is something that is not a demo's."""
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise FolderError(f"{self.path} is a file. Choose another folder with --dir.")
        story = self.story()
        foreign = [
            entry.name
            for entry in self.path.iterdir()
            if entry.name != _LOCK and not atomic.is_staging_name(entry.name)
        ]
        if story is None and foreign:
            raise FolderError(
                f"{self.path} is not empty, and what is in it is not a demo's "
                f"({sorted(foreign)[0]}, for one). Choose another folder with --dir."
            )
        if story is not None and story.get("format") != _FORMAT:
            raise FolderError(
                f"{self._story_path()} is not the demo's. Choose another folder with --dir."
            )

    def story(self) -> dict[str, Any] | None:
        """What has happened so far, or `None` where nothing has."""
        story: dict[str, Any] | None = read_json(self._story_path())
        return story

    def tell(self, **facts: Any) -> dict[str, Any]:
        """Adds to what has happened, durably.

        Args:
            **facts: JSON values by name.

        Returns:
            All of it.
        """
        story = {"format": _FORMAT, "version": _VERSION, **(self.story() or {}), **facts}
        write_json(self._story_path(), story)
        return story

    def start_over(self) -> None:
        """Removes what earlier demos wrote here, the story last."""
        for name in _RUNS:
            self.clear(name)
        for name in _OWN_FILES:
            (self.path / name).unlink(missing_ok=True)
        self._story_path().unlink(missing_ok=True)

    def clear(self, name: str) -> None:
        """Removes what the demo wrote in the folder of a run.

        Args:
            name: `"uninterrupted"` or `"interrupted"`.

        Raises:
            FolderError: If something is left that a new run would take for its own.
        """
        run = self.run(name)
        for part in ("checkpoints", "backup"):
            store = CheckpointStore(run / part)
            if not (run / part).is_dir():
                continue
            store.recover()
            with store.transaction() as transaction:
                transaction.decide(lambda records: {r.path: (False, "new demo") for r in records})
            store.remove_if_empty()
            if (run / part).exists():
                left = sorted(entry.name for entry in (run / part).iterdir())
                raise FolderError(
                    f"{run / part} holds files that the demo did not write ({left[0]}, for one), "
                    "so it cannot start anew there. Move them, or choose another folder with --dir."
                )
        for own in _OWN_FILES_OF_A_RUN:
            (run / own).unlink(missing_ok=True)
        for events in (run / "logs").rglob("events.out.tfevents.*"):
            events.unlink()
        for leftover in run.glob(".*"):
            if atomic.is_staging_name(leftover.name):
                leftover.unlink()
        logs = run / "logs"
        below = sorted(
            (f for f in logs.rglob("*") if f.is_dir()), reverse=True
        )  # the deepest first
        for folder in (*below, logs, run):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

    def _story_path(self) -> Path:
        return self.path / "demo.json"


def as_json(position: Position | None) -> list[int] | None:
    """A position as JSON, and `None` as it is.

    Args:
        position: Where a training was.
    """
    return None if position is None else [position.epoch, position.batches]


def from_json(position: list[int] | None) -> Position | None:
    """What `as_json` was given.

    Args:
        position: What it returned.
    """
    return None if position is None else Position(*position)
