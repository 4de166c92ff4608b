"""Docstrings are written in Markdown, as people read them; autodoc wants reStructuredText."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_CODE = re.compile(r"(?<!`)`([^`]+)`(?!`)(\w?)")
_LINK = re.compile(r"\[([^\]]+)\]\((https?://[^)\s]+)\)")


def to_rst(lines: list[str]) -> list[str]:
    """Markdown's `code`, [links](...) and tables as reStructuredText; examples stay as they are.

    Args:
        lines: A docstring.

    Returns:
        The same with each `code` as a literal and each link as an anonymous one.
    """
    text = "\n".join(lines)
    # A blank line ends a doctest, so these are the pieces in which code may be quoted.
    pieces = re.split(r"(\n\s*\n)", text)
    return "".join(_piece(piece) for piece in pieces).split("\n")


def _piece(text: str) -> str:
    if text.lstrip().startswith(">>>"):
        return text
    lines = text.split("\n")
    if len(lines) > 2 and all(line.lstrip().startswith("|") for line in lines):
        return "\n".join(_table(lines))
    return _prose(text)


def _table(lines: list[str]) -> list[str]:
    indent = " " * (len(lines[0]) - len(lines[0].lstrip()))
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
    out = [".. list-table::", "   :header-rows: 1", ""]
    for row in [rows[0], *rows[2:]]:  # the one between is the rule below the header
        for number, cell in enumerate(row):
            out.append(f"   {'  ' if number else '* '}- {_prose(cell)}")
    return [f"{indent}{line}" for line in out]


def _prose(text: str) -> str:
    # a literal that a letter follows ("`step`s") has to be told that it ends: by `\ `
    text = _CODE.sub(lambda m: f"``{m[1]}``" + (f"\\ {m[2]}" if m[2] else ""), text)
    return _LINK.sub(lambda m: "`{} <{}>`__".format(m[1].replace("`", ""), m[2]), text)


def _convert(
    _app: Sphinx, what: str, _name: str, _obj: Any, _options: Any, lines: list[str]
) -> None:
    lines[:] = to_rst(lines)
    if what in {"attribute", "property"}:
        # napoleon takes "words: more words" in the first line for a type; `\\ ` shows nothing
        lines.insert(0, "\\ ")


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _convert, priority=100)  # before napoleon, at 500
    return {"parallel_read_safe": True, "parallel_write_safe": True}
