"""A directive that shows what `kcp ... --help` prints, so that the page cannot fall behind."""

from __future__ import annotations

import contextlib
import io
import os
from typing import TYPE_CHECKING
from unittest import mock

from docutils import nodes
from docutils.parsers.rst import Directive

if TYPE_CHECKING:
    from sphinx.application import Sphinx


class CommandHelp(Directive):
    """`{command-help} ls` shows the help of `kcp ls`; without an argument, that of `kcp`."""

    optional_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Called by docutils."""
        from keras_callbacks_plus import cli

        words = self.arguments[0].split() if self.arguments else []
        printed = io.StringIO()
        with (
            mock.patch.dict(os.environ, {"COLUMNS": "88", "NO_COLOR": "1"}),
            contextlib.redirect_stdout(printed),
            contextlib.suppress(SystemExit),  # how argparse ends after a help
        ):
            cli.main([*words, "--help"])
        return [nodes.literal_block(printed.getvalue(), printed.getvalue(), language="text")]


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
