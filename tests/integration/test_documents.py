"""What the README and the documentation show can be typed as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import keras
import pytest

ROOT = Path(__file__).parents[2]


def python_blocks(path):
    """The Python blocks of a page, each behind as many empty lines as put it at its own line."""
    text = path.read_text(encoding="utf-8")
    for block in re.finditer(r"^```python\n(.*?)^```", text, re.M | re.S):
        yield "\n" * text.count("\n", 0, block.start(1)) + block[1]


PAGES = [
    path
    for pattern in ("README.md", "docs/**/*.md")
    for path in sorted(ROOT.glob(pattern))
    if "_build" not in path.parts and list(python_blocks(path))
]


@pytest.mark.jax
@pytest.mark.tensorflow
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_examples_of_a_page_run(path, tmp_path, monkeypatch):
    """One after the other, in one namespace and an empty folder."""
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(0)
    namespace = {"__name__": "__main__"}
    for block in python_blocks(path):
        exec(compile(block, str(path), "exec"), namespace)
