"""Lines, tables and progress on a terminal: with rich where it is installed, plain text without."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

__all__ = ["Terminal", "discard_the_rest", "format_table"]

Report = Callable[[int, str], None]


class Terminal:
    """Prints to standard output.

    Args:
        rich: Whether to use rich. Defaults to `None`: if it is installed.
        interactive: Whether somebody is looking. Defaults to `None`: if standard output is a
            terminal.
    """

    def __init__(self, *, rich: bool | None = None, interactive: bool | None = None) -> None:
        installed = importlib.util.find_spec("rich") is not None
        self._console: Any = None
        if installed if rich is None else rich:
            from rich.console import Console

            # Not cut at 80 columns where nobody is looking: a path or a score would be lost.
            narrow = None if sys.stdout.isatty() else 120
            self._console = Console(highlight=False, soft_wrap=True, width=narrow)
            self._console.on_broken_pipe = _raise_again  # rich would end the process
        self._interactive = sys.stdout.isatty() if interactive is None else interactive

    def print(self, text: str = "", style: str = "") -> None:
        """Prints a line.

        Args:
            text: The line, taken literally.
            style: A style of rich's, such as `"bold red"`; ignored without it.
        """
        if self._console is None:
            print(text, flush=True)
        else:
            self._console.print(text, style=style or None, markup=False)

    @property
    def width(self) -> int | None:
        """Columns that a table may take; `None` where lines may be of any length."""
        return self._console.width if self._console is not None and self._interactive else None

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[str]], *, marked: int | None = None
    ) -> None:
        """Prints a table; with one line for each row where nobody is looking.

        Args:
            columns: The heads; one that begins with `>` is aligned right.
            rows: The cells.
            marked: Number of the row to stand out where there are colours. Defaults to `None`.
        """
        if self._console is None or not self._interactive:
            print(format_table(columns, rows), flush=True)
            return
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for column in columns:
            right = column.startswith(">")
            table.add_column(
                Text(column.lstrip(">")), justify="right" if right else "left", overflow="fold"
            )
        for number, row in enumerate(rows):
            style = "bold green" if number == marked else None
            table.add_row(*(Text(cell) for cell in row), style=style)
        self._console.print(table, soft_wrap=False)

    @contextlib.contextmanager
    def progress(self, title: str, total: int, every: int) -> Iterator[Report]:
        """Shows how far something is.

        Args:
            title: What is under way.
            total: How much there is to do.
            every: Where no bar can be drawn, print a line each time this much more is done.

        Yields:
            A function to call with how much is done and a few words.
        """
        if self._console is None or not self._interactive:
            yield self._lines(title, total, every)
            return
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[words]}", markup=False),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._console) as bar:
            task = bar.add_task(title, total=None, words="")

            def report(done: int, words: str) -> None:
                bar.update(task, total=total if done else None, completed=done, words=words)

            yield report

    def _lines(self, title: str, total: int, every: int) -> Report:
        printed = -every

        def report(done: int, words: str) -> None:
            nonlocal printed
            if done - printed >= every or (done == total and printed != total):
                printed = done
                self.print(f"{title}  {words}")

        return report


def discard_the_rest() -> None:
    """Lets standard output lead nowhere, once its reader has gone.

    What is still in its buffer is written when the interpreter ends, and would fail there:
    https://docs.python.org/3/library/signal.html#note-on-sigpipe
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _raise_again() -> None:
    raise BrokenPipeError


def format_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in plain text.

    Args:
        columns: As in `Terminal.table`.
        rows: The cells.

    Returns:
        Its lines.
    """
    right = [column.startswith(">") for column in columns]
    cells = [[column.lstrip(">") for column in columns], *rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]

    def line(row: Sequence[str]) -> str:
        fitted = (
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(row, widths, right, strict=True)
        )
        return "  ".join(fitted).rstrip()

    return "\n".join([line(cells[0]), *(line(list(row)) for row in rows)])
