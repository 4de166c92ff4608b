"""Checkpoints as a table: for a notebook, for a terminal, for `repr`."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from keras_callbacks_plus.reading._checkpoint import Checkpoint

__all__ = ["Table", "in_bytes", "table_of"]

_REASON = 28  # columns that a reason needs to be read when it is folded
_GAP = 3  # columns between two, as the widest of the tables has them


@dataclass(frozen=True)
class Table:
    """Heads and cells.

    Args:
        columns: The heads; one that begins with `>` is aligned right.
        rows: The cells.
        marked: Number of the row to stand out, or `None`.
        hidden: Metrics that did not fit.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    marked: int | None = None
    hidden: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Columns of text that it takes; the last one, of reasons, can be folded."""
        lines = [[column.lstrip(">") for column in self.columns], *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.columns))]
        return sum(widths[:-1]) + min(widths[-1], _REASON) + _GAP * len(widths)

    def to_html(self, caption: str) -> str:
        """A table for a notebook.

        Args:
            caption: What stands above it.
        """
        right = [column.startswith(">") for column in self.columns]
        lines = [f"<table><caption>{html.escape(caption)}</caption>", "<thead>"]
        lines += [_html_row([c.lstrip(">") for c in self.columns], right, "th"), "</thead><tbody>"]
        for number, row in enumerate(self.rows):
            lines.append(_html_row(row, right, "td", bold=number == self.marked))
        return "\n".join([*lines, "</tbody></table>"])


def table_of(
    checkpoints: Sequence[Checkpoint],
    best: Checkpoint | None = None,
    width: int | None = None,
) -> Table:
    """What `kcp ls` shows.

    Args:
        checkpoints: The rows.
        best: The one to stand out.
        width: Columns of text to fit into, by hiding metrics; at least one of them is shown.
            Defaults to `None`, any width.
    """
    names = _metrics(checkpoints)
    shown = len(names)
    table = _table(checkpoints, names, best)
    while width is not None and table.width > width and shown > 1:
        shown -= 1
        table = _table(checkpoints, names[:shown], best)
    return replace(table, hidden=tuple(names[shown:]))


def _table(
    checkpoints: Sequence[Checkpoint], names: Sequence[str], best: Checkpoint | None
) -> Table:
    batches = any(c.batch is not None for c in checkpoints)
    several = len({c.series for c in checkpoints}) > 1
    columns = ["file", *(["series"] if several else []), ">epoch", *([">batch"] if batches else [])]
    columns += [*(f">{name}" for name in names), ">size", "saved", "kept because"]
    rows = []
    for c in checkpoints:
        values = (c.metrics.get(name) for name in names)
        row = [c.name, *([c.series] if several else []), _from_one(c.epoch)]
        row += [_from_one(c.batch)] if batches else []
        row += ["" if value is None else f"{value:.5g}" for value in values]
        row += [in_bytes(c.size), datetime.fromtimestamp(c.time).strftime("%Y-%m-%d %H:%M")]
        rows.append((*row, c.kept_because))
    marked = next((i for i, c in enumerate(checkpoints) if c == best), None)
    return Table(tuple(columns), tuple(rows), marked)


def in_bytes(count: int) -> str:
    """`1500` as `"1.5 kB"`.

    Args:
        count: Number of bytes.
    """
    if count < 1000:
        return f"{count} B"
    power = min(int(math.log10(count) / 3), 4)
    return f"{count / 1000**power:.1f} {' kMGT'[power]}B"


def _metrics(checkpoints: Sequence[Checkpoint]) -> list[str]:
    """Their names: what is ranked by, what was validated, the rest; last what never changes."""
    ranked = {c.monitor for c in checkpoints}
    names = {name for c in checkpoints for name in c.metrics}

    def place(name: str) -> tuple[bool, bool, bool, str]:
        same = len({c.metrics.get(name) for c in checkpoints}) == 1
        return name not in ranked, same, not name.startswith("val_"), name

    return sorted(names, key=place)


def _from_one(number: int | None) -> str:
    return "" if number is None else str(number + 1)


def _html_row(cells: Sequence[str], right: Sequence[bool], tag: str, *, bold: bool = False) -> str:
    parts = []
    for cell, is_right in zip(cells, right, strict=True):
        text = html.escape(cell)
        align = "right" if is_right else "left"
        text = f"<b>{text}</b>" if bold else text
        parts.append(f'<{tag} style="text-align: {align}">{text}</{tag}>')
    return f"<tr>{''.join(parts)}</tr>"
